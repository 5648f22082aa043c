"""Pictures of a single object, for classification."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.datasets.shapes import textures
from data.datasets.shapes.outlines import CLASSES, coverage

SPLITS: tuple[str, ...] = ("train", "val")

PICTURE_SIZE = 96
"""Nominal side in pixels, unless another one is asked for."""

_SIDE = (0.2, 0.7)  # side of the object, as a share of the image's shorter side
_FRAME = 0.92  # the object lies in the central square of this share of the shorter side
_ASPECT = 1.0 / 6.0  # height and width vary by this share around the nominal side
_OCCLUDED = 0.2  # share of the pictures with an occluder
_COVERED = (0.1, 0.25)  # share of the object that an occluder covers


class Picture(NamedTuple):
    """A picture and what is known of it.

    `image` is uint8 [H, W, 3] RGB, `label` an index into `CLASSES`, `mask` bool [H, W] the whole
    object including its hidden part, `occluder` bool [H, W] what hides it (mostly nothing).
    """

    image: npt.NDArray[np.uint8]
    label: int
    mask: npt.NDArray[np.bool_]
    occluder: npt.NDArray[np.bool_]


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one image: a stream of its own for every seed, split and index."""
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))
    return np.random.Generator(np.random.PCG64(sequence))


def classification_image(seed: int, split: str, index: int, size: int = PICTURE_SIZE) -> Picture:
    """Return image `index` of a split: one object on a textured background.

    A pure function of its arguments. The classes take turns, so every run of eight images has
    them all. Height and width are drawn from `size` pixels -/+ a sixth.
    """
    rng = generator(seed, split, index)
    label = index % len(CLASSES)
    height, width = (int(n) for n in np.rint(size * rng.uniform(1 - _ASPECT, 1 + _ASPECT, 2)))
    shape, short = (height, width), min(height, width)
    ground = textures.background_colour(rng)
    image = textures.paint(rng, ground, shape, short)

    side = short * rng.uniform(*_SIDE)
    room = (_FRAME * short - side) / 2.0
    x, y = rng.uniform(-room, room, 2)
    whole = coverage(
        label, shape, (width / 2.0 + x, height / 2.0 + y), side, rng.uniform(0.0, 2.0 * np.pi)
    )
    colour = textures.object_colour(rng, on=[ground])
    image += whole[..., None] * (textures.paint(rng, colour, shape, side) - image)

    mask, hidden = whole >= 0.5, np.zeros_like(whole)
    if rng.random() < _OCCLUDED:
        hidden = _occluder(rng, mask)
        cover = textures.occluder_colour(rng, over=[ground, colour])
        image += hidden[..., None] * (textures.paint(rng, cover, shape, side) - image)
    return Picture(textures.finish(rng, image), label, mask, hidden > 0.5)


def _occluder(rng: np.random.Generator, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Draw a band or a blob that hides a part of the object: its share of every pixel, [H, W].

    Both are the pixels nearer to a point of the object than some level, by one distance or
    another. The level is the quantile that belongs to the share to be hidden.
    """
    rows, columns = np.nonzero(mask)
    point = rng.integers(len(rows))
    x = np.arange(mask.shape[1]) - columns[point]
    y = (np.arange(mask.shape[0]) - rows[point])[:, None]
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
