"""The objects of one image: what training learns from, and what evaluation compares with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """The annotation records of one image as they stand in the file, k of them.

    `boxes` float64 [k, 4] (x, y, width, height), pixels; `labels` int64 [k], from 1 on; `area`
    float64 [k], square pixels (width x height where the file gives none); `crowd` bool [k].
    Crowds and degenerate boxes are among them: the official evaluation counts with them.
    """

    image_id: int
    boxes: Floats
    labels: Numbers
    area: Floats
    crowd: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Objects:
    """The objects of one image that a detector should find, n of them, and all records.

    `boxes` float32 [n, 4] corner form (x1, y1, x2, y2), pixels of the image, clipped to it, none
    degenerate, no crowds; `labels` int64 [n], from 1 on.
    """

    boxes: npt.NDArray[np.float32]
    labels: Numbers
    truth: Truth


def usable(
    boxes: Floats, height: npt.ArrayLike, width: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Boxes (x, y, w, h) [k, 4] -> corner form clipped to the image, float32 [k, 4]; which are any.

    A box is usable if its numbers are finite, both sides are above 0 and a part of it lies in the
    image. `height` and `width`, pixels, are numbers or [k].
    """
    x, y, w, h = np.where(np.all(np.isfinite(boxes), 1)[:, None], boxes, 0.0).T
    sides = (width, height, width, height)
    corners = [np.clip(c, 0.0, side) for c, side in zip((x, y, x + w, y + h), sides, strict=True)]
    # in float32, as they will be used: a sliver may have no width left
    clipped = np.stack(corners, 1).astype(np.float32)
    return clipped, np.all(clipped[:, 2:] > clipped[:, :2], 1)


NO_OBJECTS = Objects(
    np.zeros((0, 4), np.float32),
    np.zeros(0, np.int64),
    Truth(0, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)),
)
"""Of an image whose objects nobody knows."""
