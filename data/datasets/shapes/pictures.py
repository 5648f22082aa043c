"""Pictures of a single object, for classification."""

from typing import NamedTuple

import numpy as np

from data.datasets.shapes.outlines import CLASSES, coverage
from data.datasets.shapes.textures import KINDS, paint, pick_colour

SPLITS: tuple[str, ...] = ("train", "val")

SIDE = (0.2, 0.7)  # object side as a share of the image's shorter side
_FRAME = 0.92  # the object lies in the central square of this share of the shorter side
_ASPECT = 1.0 / 6.0  # height and width vary by this share around the nominal size
_OCCLUDED = 0.2  # share of the pictures with an occluder
_COVERED = (0.1, 0.25)  # share of the object that an occluder covers
_GRAIN = 3.0  # standard deviation of the pixel noise, of 255


class Picture(NamedTuple):
    """One picture and what is known of it."""

    image: np.ndarray
    """uint8 [H, W, 3] RGB."""
    label: int
    """Index into ``CLASSES``."""
    mask: np.ndarray
    """bool [H, W], the whole object, including what an occluder hides."""
    occluder: np.ndarray
    """bool [H, W], the occluder; empty in four of five pictures."""


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one picture: a stream of its own for every seed, split and index."""
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))
    return np.random.Generator(np.random.PCG64(sequence))


def classification_image(seed: int, split: str, index: int, size: int = 96) -> Picture:
    """Return picture ``index`` of a split: one object on a textured background.

    A pure function of its arguments. Labels take turns, so that classes are balanced. Height
    and width are drawn from ``size`` -/+ a sixth (pixels).
    """
    rng = generator(seed, split, index)
    label = index % len(CLASSES)
    height, width = (int(s) for s in np.rint(size * rng.uniform(1 - _ASPECT, 1 + _ASPECT, 2)))
    ground_colour = pick_colour(rng)
    colour = pick_colour(rng, beside=[ground_colour])
    image = _textured(rng, ground_colour, (height, width), min(height, width))

    short = min(height, width)
    side = short * rng.uniform(*SIDE)
    room = (_FRAME * short - side) / 2.0
    centre = np.array([width, height]) / 2.0 + rng.uniform(-room, room, 2)
    whole = coverage(label, (height, width), tuple(centre), side, rng.uniform(0.0, 2.0 * np.pi))
    image += whole[..., None] * (_textured(rng, colour, (height, width), side) - image)

    hidden = np.zeros_like(whole)
    if rng.random() < _OCCLUDED:
        hidden = _occluder(rng, whole >= 0.5)
        occluder_colour = pick_colour(rng, over=[ground_colour, colour])
        patch = _textured(rng, occluder_colour, (height, width), side)
        image += hidden[..., None] * (patch - image)
    return Picture(finish(rng, image), label, whole >= 0.5, hidden > 0.5)


def _textured(rng, colour, size, extent):
    """A patch whose texture has three to eight periods over ``extent`` pixels."""
    kind = KINDS[rng.integers(len(KINDS))]
    period = max(extent / rng.uniform(3.0, 8.0), 4.0)
    return paint(rng, kind, colour, size, period, strength=rng.uniform(8.0, 26.0))


def _occluder(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Coverage of a band or a blob that hides part of the object, float32 [H, W] in [0, 1].

    Both are level sets of a distance around a pixel of the object, so that the level is the
    quantile that belongs to the share to hide.
    """
    rows, columns = np.nonzero(mask)
    at = rng.integers(len(rows))
    x = np.arange(mask.shape[1]) - columns[at]
    y = (np.arange(mask.shape[0]) - rows[at])[:, None]
    angle, wave = rng.uniform(0.0, 2.0 * np.pi, 2)
    if rng.random() < 0.5:
        distance = np.abs(x * np.cos(angle) + y * np.sin(angle))
    else:
        bearing = np.arctan2(y, x)
        lobes = 1.0 + 0.25 * np.sin(2.0 * bearing + angle) + 0.15 * np.sin(3.0 * bearing + wave)
        distance = np.hypot(x, y) / lobes
    inside = np.sort(distance[mask])
    level = inside[int(rng.uniform(*_COVERED) * len(inside))]
    return np.clip(level - distance + 0.5, 0.0, 1.0).astype(np.float32)


def finish(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add uneven light and grain to float32 [H, W, 3] and return uint8."""
    height, width = image.shape[:2]
    across, down = rng.uniform(-0.08, 0.08, 2).astype(np.float32)
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    light = 1.0 + across * x + down * y
    grain = _GRAIN * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(np.rint(image * light[..., None] + grain), 0, 255).astype(np.uint8)
