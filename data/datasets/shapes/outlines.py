"""The forms of the generated data set: outlines of the classes and their rasterisation.

An outline is a list of closed contours, float64 [N, 2] (x, y) in arbitrary units; contours are
filled by the even-odd rule, so a second contour inside the first is a hole. The classes were
chosen to stay apart at 13 pixels, in any rotation and with a quarter of the object covered.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Outline = list[np.ndarray]
Size = tuple[int, int]

_SUPERSAMPLING = 4  # sub-pixels per pixel and axis when a form is drawn
_SHIFT = 4  # fractional bits of the corner coordinates that OpenCV takes


def _arc(radius: float, start: float, stop: float, centre: float = 0.0) -> np.ndarray:
    """Points on a circle around (centre, 0) from angle ``start`` to ``stop`` (radians), [48, 2]."""
    angles = np.linspace(start, stop, 48)
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _disc() -> Outline:
    return [_arc(1.0, 0.0, 2.0 * np.pi)]


def _ring() -> Outline:
    return [_arc(1.0, 0.0, 2.0 * np.pi), _arc(0.56, 0.0, 2.0 * np.pi)]


def _square() -> Outline:
    return [np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])]


def _triangle() -> Outline:
    return [_radial([1.0, 1.0, 1.0])]


def _star() -> Outline:
    return [_radial([1.0, 0.4] * 5)]


def _radial(radii: Sequence[float]) -> np.ndarray:
    """Corners at equal angles and the given distances from the origin, [N, 2]."""
    angles = np.arange(len(radii)) * (2.0 * np.pi / len(radii))
    return np.asarray(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross() -> Outline:
    arm = 0.3
    quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    turns = [np.array([[0, 1], [-1, 0]]), -np.eye(2), np.array([[0, -1], [1, 0]])]
    return [np.concatenate([quarter, *(quarter @ turn for turn in turns)])]


def _crescent() -> Outline:
    # Both arcs meet at angle `tip` of the outer circle; the inner circle lies off-centre.
    tip, inner_centre = 0.8, 0.62
    x, y = np.cos(tip), np.sin(tip)
    inner_radius = float(np.hypot(x - inner_centre, y))
    inner_tip = float(np.arctan2(y, x - inner_centre))
    outer = _arc(1.0, tip, 2.0 * np.pi - tip)
    inner = _arc(inner_radius, 2.0 * np.pi - inner_tip, inner_tip, inner_centre)
    return [np.concatenate([outer, inner])]


def _bar() -> Outline:
    return [np.array([[-1.0, -0.24], [1.0, -0.24], [1.0, 0.24], [-1.0, 0.24]])]


_OUTLINES: dict[str, Callable[[], Outline]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "bar": _bar,
}
CLASSES: tuple[str, ...] = tuple(_OUTLINES)
_CONTOURS: tuple[Outline, ...] = tuple(outline() for outline in _OUTLINES.values())


def coverage(label: int, size: Size, centre: tuple[float, float], side: float, angle: float):
    """Draw one form and return its share of every pixel.

    Args:
        label: index into ``CLASSES``.
        size: (height, width) of the canvas in pixels.
        centre: (x, y) of the bounding box's centre in pixels; (0, 0) is the canvas' corner.
        side: longer side of the upright bounding box of the rotated form, in pixels.
        angle: rotation in radians.

    Returns:
        float32 [H, W] in [0, 1]; at least 0.5 counts as object where a mask is needed.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    contours = [contour @ np.array([[cos, sin], [-sin, cos]]) for contour in _CONTOURS[label]]
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    scale = side / (high - low).max()
    # OpenCV puts the centre of the first sub-pixel at 0, hence the half.
    grid = [
        np.rint(
            (((c - (low + high) / 2) * scale + centre) * _SUPERSAMPLING - 0.5) * (1 << _SHIFT)
        ).astype(np.int32)
        for c in contours
    ]
    height, width = size
    canvas = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(canvas, grid, 255, shift=_SHIFT)
    share = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return share.astype(np.float32) / 255.0
