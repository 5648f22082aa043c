"""Scenes of several objects, for detection and segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.datasets.shapes import textures
from data.datasets.shapes.outlines import CLASSES, coverage
from data.datasets.shapes.pictures import generator

Mask = npt.NDArray[np.bool_]

SCENE_SIZE = 320
"""Longer side in pixels, unless another one is asked for."""

_SIDE = (0.08, 0.6)  # side of an object, as a share of the image's shorter side
_LEAST_SIDE = 12.0  # pixels: in small images the smallest objects would be unreadable
_OVERLAPPING = 0.4  # share of the objects that are put onto an earlier one
_OVERLAP = (0.04, 0.4)  # share of the smaller object's area that lies in the larger one
_VISIBLE = 0.7  # every object shows at least this share of its area
_TRIES = 12  # places tried before an object is given up
_CROWD_SIDE = (0.08, 0.11)  # side of the objects of a crowd
_CROWD_PERIOD, _CROWD_PHASE = 8, 5  # one scene in eight has a crowd
_EMPTY_PERIOD, _EMPTY_PHASE = 16, 10  # one in sixteen is empty


@dataclass(frozen=True)
class Style:
    """What a layout has in its scenes.

    Crowds and empty scenes come at fixed indices, so that small sets have them too. `objects` is
    the range of their number, besides crowds and in scenes that are not empty.
    """

    crowds: bool
    empties: bool
    objects: tuple[int, int] = (1, 6)


class Item(NamedTuple):
    """An object of a scene, or a crowd of objects of one class.

    `side` is the longer side of the whole object's bounding box in pixels (of the largest member
    of a crowd), `whole` the object's mask before others cover it, `visible` what is left.
    """

    label: int
    crowd: bool
    side: float
    whole: Mask
    visible: Mask


class Scene(NamedTuple):
    """`image` is uint8 [H, W, 3] RGB."""

    image: npt.NDArray[np.uint8]
    items: tuple[Item, ...]


def scene(seed: int, split: str, index: int, style: Style, size: int = SCENE_SIZE) -> Scene:
    """Return scene `index` of a split, a pure function of the arguments.

    The longer side has `size` pixels, the shorter one 65 to 85 % of it; seven of ten scenes lie
    on the long side.
    """
    rng = generator(seed, split, index)
    short = round(size * rng.uniform(0.65, 0.85))
    stage = _Stage(rng, (short, size) if rng.random() < 0.7 else (size, short), style)
    if style.empties and index % _EMPTY_PERIOD == _EMPTY_PHASE:
        return stage.scene()
    if style.crowds and index % _CROWD_PERIOD == _CROWD_PHASE:
        stage.add_crowd()
    least, most = style.objects
    for _ in range(least + rng.integers(most - least + 1)):
        stage.add_object()
    while stage.objects < least:  # not every one found a place
        stage.add_object()
    return stage.scene()


class _Form(NamedTuple):
    """A drawn form: its share of the pixels of a window of the image."""

    window: tuple[slice, slice]
    share: npt.NDArray[np.float32]
    side: float


class _Stage:
    """A scene in the making: the image so far and who is on top where."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], style: Style):
        self.rng, self.size, self.short = rng, size, min(size)
        self.ground_colours, self.image = _background(rng, size)
        self.owner = np.full(size, -1, np.int16)  # index of the topmost item
        self.wholes: list[Mask] = []
        self.colours: list[textures.Floats] = []
        self.facts: list[tuple[int, bool, float]] = []  # label, crowd, side

    @property
    def objects(self) -> int:
        """How many there are, crowds apart."""
        return sum(not crowd for _, crowd, _ in self.facts)

    def scene(self) -> Scene:
        """Finish the image."""
        items = [
            Item(*facts, whole, self.owner == index)
            for index, (facts, whole) in enumerate(zip(self.facts, self.wholes, strict=True))
        ]
        return Scene(textures.finish(self.rng, self.image), tuple(items))

    def add_object(self) -> None:
        """Add an object where it hides too little to matter, or none if there is no such place."""
        rng = self.rng
        label = int(rng.integers(len(CLASSES)))
        low, high = (share * self.short for share in _SIDE)
        side = float(np.exp(rng.uniform(np.log(max(low, _LEAST_SIDE)), np.log(high))))
        singles = [index for index, (_, crowd, _) in enumerate(self.facts) if not crowd]
        onto = None
        if singles and rng.random() < _OVERLAPPING:
            onto = singles[rng.integers(len(singles))]
        for _ in range(_TRIES):
            form = self._form(label, side, self._place(side, onto))
            whole = self._mask(form)
            met = [n for n, other in enumerate(self.wholes) if (other & whole).any()]
            if met == ([] if onto is None else [onto]) and self._bearable(whole, met):
                beside = [self.colours[index] for index in met]
                colour = textures.object_colour(rng, self.ground_colours, beside)
                self._paint(form, colour)
                self._own(whole, label, side, colour)
                return

    def add_crowd(self) -> None:
        """Add a heap of small objects of one class."""
        rng, (height, width) = self.rng, self.size
        label, count = int(rng.integers(len(CLASSES))), int(rng.integers(9, 16))
        spread = np.array([0.2, 0.13]) * self.short
        reach = spread + 0.06 * self.short
        middle = rng.uniform(reach, np.array([width, height]) - reach)
        whole, largest, colour = np.zeros(self.size, np.bool_), 0.0, self.ground_colours[0]
        for _ in range(count):
            side = max(self.short * rng.uniform(*_CROWD_SIDE), 0.7 * _LEAST_SIDE)
            x, y = middle + rng.uniform(-1.0, 1.0, 2) * spread
            form = self._form(label, side, (x, y))
            colour = textures.object_colour(rng, self.ground_colours, [colour])
            self._paint(form, colour)
            whole |= self._mask(form)
            largest = max(largest, side)
        self._own(whole, label, largest, colour, crowd=True)

    def _place(self, side: float, onto: int | None) -> tuple[float, float]:
        """A centre (x, y) in the frame: anywhere, or at the rim of item `onto`."""
        height, width = self.size
        low, high = np.full(2, side / 2.0 + 1.0), np.array([width, height]) - side / 2.0 - 1.0
        if onto is None:
            x, y = self.rng.uniform(low, high)
            return x, y
        rows, columns = np.nonzero(self.wholes[onto])
        angle = self.rng.uniform(0.0, 2.0 * np.pi)
        reach = (self.facts[onto][2] + side) / 2.0 * self.rng.uniform(0.5, 0.95)
        offset = reach * np.array([np.cos(angle), np.sin(angle)])
        x, y = np.clip(np.array([columns.mean(), rows.mean()]) + offset, low, high)
        return x, y

    def _form(self, label: int, side: float, centre: tuple[float, float]) -> _Form:
        """Draw a form at a random angle, within a window that just holds it."""
        left, top = (int(c - side / 2.0) - 1 for c in centre)
        extent = int(side) + 4
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(top + extent, self.size[0]), min(left + extent, self.size[1])
        angle = self.rng.uniform(0.0, 2.0 * np.pi)
        inner = (centre[0] - left, centre[1] - top)
        share = coverage(label, (bottom - top, right - left), inner, side, angle)
        return _Form((slice(top, bottom), slice(left, right)), share, side)

    def _mask(self, form: _Form) -> Mask:
        mask = np.zeros(self.size, np.bool_)
        mask[form.window] = form.share >= 0.5
        return mask

    def _bearable(self, whole: Mask, met: list[int]) -> bool:
        """Whether the objects below overlap the new one enough, and stay visible enough."""
        for index in met:
            below = self.wholes[index]
            common, smaller = np.sum(below & whole), min(np.sum(below), np.sum(whole))
            if not _OVERLAP[0] <= common / smaller <= _OVERLAP[1]:
                return False
            if np.sum((self.owner == index) & ~whole) < _VISIBLE * np.sum(below):
                return False
        return True

    def _paint(self, form: _Form, colour: textures.Floats) -> None:
        patch = textures.paint(self.rng, colour, form.share.shape, form.side)
        region = self.image[form.window]
        region += form.share[..., None] * (patch - region)

    def _own(
        self, whole: Mask, label: int, side: float, colour: textures.Floats, crowd: bool = False
    ) -> None:
        self.owner[whole] = len(self.facts)
        self.wholes.append(whole)
        self.colours.append(colour)
        self.facts.append((label, crowd, side))


def _background(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[list[textures.Floats], textures.Floats]:
    """Paint one texture, or two of like brightness that meet at a wavy horizon.

    Returns the colours, and the image [H, W, 3].
    """
    height, width = size
    kinds = rng.permutation(len(textures.KINDS))[:2]
    upper = textures.background_colour(rng)
    lower = textures.background_colour(rng)
    # An object must stand out from both, so both are dark or both are bright.
    lower = np.minimum(lower * float((upper @ textures.LUMA) / (lower @ textures.LUMA)), 255.0)
    colours = [upper, lower]
    above, below = (
        textures.paint(rng, colour, size, min(size), [textures.KINDS[kind]])
        for colour, kind in zip(colours, kinds, strict=True)
    )
    x = np.linspace(0.0, 2.0 * np.pi, width)
    horizon = rng.uniform(0.35, 0.75) + 0.04 * np.sin(rng.uniform(0.5, 2.0) * x + rng.uniform(0, 6))
    depth = np.arange(height)[:, None] - horizon * height
    if rng.random() < 0.35:
        depth = np.full(size, -1.0)  # no horizon: the upper texture alone
        colours = [upper]
    share = np.clip(depth + 0.5, 0.0, 1.0).astype(np.float32)[..., None]
    return colours, above + share * (below - above)
