"""The forms of the generated data set: outlines of the classes and how they are drawn.

An outline is a list of closed contours, float64 [N, 2] (x, y) in arbitrary units, filled by the
even-odd rule: a second contour inside the first is a hole. The classes were chosen to stay apart
at 13 pixels, in any rotation and with a quarter of the object covered; a heart, an arrow and an
hourglass were tried and confused with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Outline = list[npt.NDArray[np.float64]]

_SUPERSAMPLING = 4  # sub-pixels per pixel and axis
_SHIFT = 4  # fractional bits of the coordinates that OpenCV takes


def _arc(radius: float, start: float, stop: float, centre: float = 0.0) -> npt.NDArray[np.float64]:
    """Points on a circle around (centre, 0), from angle `start` to `stop` in radians, [48, 2]."""
    angles = np.linspace(start, stop, 48)
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _radial(radii: Sequence[float]) -> npt.NDArray[np.float64]:
    """Corners at equal angles and the given distances from the origin, [N, 2]."""
    angles = np.arange(len(radii)) * (2.0 * np.pi / len(radii))
    return np.asarray(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _box(half_width: float, half_height: float) -> npt.NDArray[np.float64]:
    """An upright rectangle around the origin, [4, 2]."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [half_width, half_height]


def _bar() -> Outline:
    return [_box(1.0, 0.24)]


def _crescent() -> Outline:
    # Two arcs that meet at the tips, at angle `tip` on the outer circle.
    tip, inner_centre = 0.8, 0.62
    x, y = np.cos(tip), np.sin(tip)
    inner_tip = float(np.arctan2(y, x - inner_centre))
    outer = _arc(1.0, tip, 2.0 * np.pi - tip)
    inner = _arc(float(np.hypot(x - inner_centre, y)), 2 * np.pi - inner_tip, inner_tip, 0.62)
    return [np.concatenate([outer, inner])]


def _cross() -> Outline:
    arm = 0.3
    corners = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    turns = [np.linalg.matrix_power(quarter_turn, n) for n in range(4)]
    return [np.concatenate([corners @ turn for turn in turns])]


def _disc() -> Outline:
    return [_arc(1.0, 0.0, 2.0 * np.pi)]


def _ring() -> Outline:
    return [_arc(1.0, 0.0, 2.0 * np.pi), _arc(0.56, 0.0, 2.0 * np.pi)]


def _square() -> Outline:
    return [_box(1.0, 1.0)]


def _star() -> Outline:
    return [_radial([1.0, 0.4] * 5)]


def _triangle() -> Outline:
    return [_radial([1.0, 1.0, 1.0])]


# In alphabetical order: a folder per class then gives the same indices.
_OUTLINES: dict[str, Callable[[], Outline]] = {
    "bar": _bar,
    "crescent": _crescent,
    "cross": _cross,
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
CLASSES: tuple[str, ...] = tuple(_OUTLINES)
"""Names of the classes; the index is the label."""

_CONTOURS: tuple[Outline, ...] = tuple(outline() for outline in _OUTLINES.values())


def coverage(
    label: int,
    size: tuple[int, int],
    centre: tuple[float, float],
    side: float,
    angle: float,
) -> npt.NDArray[np.float32]:
    """Draw one form and return its share of every pixel, [H, W] in [0, 1].

    `size` is the (height, width) of the canvas and `centre` the (x, y) of the middle of the
    form's upright bounding box, in pixels, (0, 0) being the corner of the canvas. `side` is the
    longer side of that box after the rotation by `angle` radians. A share of at least a half
    counts as object where a mask is needed.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    contours = [contour @ np.array([[cos, sin], [-sin, cos]]) for contour in _CONTOURS[label]]
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    # OpenCV fills the sub-pixels under the edge too, half of which lie outside.
    scale = (side - 1.0 / _SUPERSAMPLING) / (high - low).max()
    placed = [(contour - (low + high) / 2.0) * scale + centre for contour in contours]
    # The centre of OpenCV's first sub-pixel lies at 0, ours at a half.
    fixed = [(points * _SUPERSAMPLING - 0.5) * (1 << _SHIFT) for points in placed]
    height, width = size
    canvas = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32) for points in fixed], 255, shift=_SHIFT)
    share = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return share.astype(np.float32) / np.float32(255.0)
