"""Colours, textures and light of the generated data set.

A colour is float32 [3] RGB in 0..255. Contrast is guaranteed where a colour is picked: its
brightness keeps a distance from that of everything around it, and textures move brightness by
much less than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LUMA: Floats = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G and B in brightness (ITU-R BT.601), which has the range 0..255 too."""

_LUMA_GAP = 110.0  # least difference in brightness between an object and its background
_COLOUR_GAP = 90.0  # least distance in RGB between things that overlap
_MIDDLE = np.full(3, 128.0, np.float32)
_MIDDLE_GAP = 26.0  # backgrounds are dark or bright by this much, else no object has its gap
_STRENGTH = (4.0, 12.0)  # change of a channel by a texture
_GRAIN = 3.0  # standard deviation of the noise of a pixel
_LIGHT = 0.08  # relative change of brightness from the middle of the image to an edge
_CANDIDATES = 24  # colours drawn at once
_ROUNDS = 8  # draws before the best colour so far is taken


def background_colour(rng: np.random.Generator) -> Floats:
    """Draw a colour that leaves room for a contrasting one."""
    return _pick(rng, lambda colours: _luma_distance(colours, _MIDDLE) / _MIDDLE_GAP)


def object_colour(
    rng: np.random.Generator, on: Sequence[Floats], beside: Sequence[Floats] = ()
) -> Floats:
    """Draw a colour of other brightness than those it lies `on`, unlike those it lies `beside`."""

    def margin(colours: Floats) -> Floats:
        gaps = [_luma_distance(colours, other) / _LUMA_GAP for other in on]
        gaps += [np.linalg.norm(colours - other, axis=1) / _COLOUR_GAP for other in beside]
        return np.min(gaps, axis=0)

    return _pick(rng, margin)


def occluder_colour(rng: np.random.Generator, over: Sequence[Floats]) -> Floats:
    """Draw a colour unlike all those `over` which it lies."""
    return object_colour(rng, (), over)


def _luma_distance(colours: Floats, other: Floats) -> Floats:
    """Difference in brightness of [N, 3] colours and another, [N] in 0..255."""
    return np.abs((colours - other) @ LUMA)


def _pick(rng: np.random.Generator, margin: Callable[[Floats], Floats]) -> Floats:
    """The first random colour whose margin reaches 1, else the one whose margin is largest."""
    best, best_margin = _MIDDLE, -1.0
    for _ in range(_ROUNDS):
        colours = _random_colours(rng)
        margins = np.minimum(margin(colours), 1.0)
        first = int(np.argmax(margins))
        if margins[first] > best_margin:
            best, best_margin = colours[first], float(margins[first])
        if best_margin >= 1.0:
            break
    return best


def _random_colours(rng: np.random.Generator) -> Floats:
    """Colours of any hue, neither grey nor garish, [N, 3]."""
    hue, saturation, value = rng.random((3, _CANDIDATES, 1))
    saturation, value = 0.15 + 0.6 * saturation, 0.18 + 0.8 * value
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue) % 6.0  # HSV to RGB, all channels at once
    dip = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    return (255.0 * value * (1.0 - saturation * dip)).astype(np.float32)


def _phases(
    rng: np.random.Generator, size: tuple[int, int], period: float
) -> tuple[Floats, Floats]:
    """Phases in radians along and across a random direction, [H, W] each; `period` in pixels."""
    angle, first, second = rng.uniform(0.0, 2.0 * np.pi, 3)
    rate = 2.0 * np.pi / period
    cos, sin = np.float32(rate * np.cos(angle)), np.float32(rate * np.sin(angle))
    y, x = (np.arange(n, dtype=np.float32) for n in size)
    y = y[:, None]
    return x * cos + y * sin + np.float32(first), y * cos - x * sin + np.float32(second)


def _gradient(rng: np.random.Generator, size: tuple[int, int], period: float) -> Floats:
    along, _ = _phases(rng, size, period)
    low = along.min()
    return (along - low) * np.float32(2.0 / max(along.max() - low, 1e-6)) - np.float32(1.0)


def _stripes(rng: np.random.Generator, size: tuple[int, int], period: float) -> Floats:
    along, _ = _phases(rng, size, period)
    return np.clip(np.float32(2.5) * np.sin(along), -1.0, 1.0)


def _checks(rng: np.random.Generator, size: tuple[int, int], period: float) -> Floats:
    along, across = _phases(rng, size, 1.4 * period)
    return np.clip(np.float32(6.0) * np.sin(along) * np.sin(across), -1.0, 1.0)


def _dots(rng: np.random.Generator, size: tuple[int, int], period: float) -> Floats:
    along, across = _phases(rng, size, period)
    return np.clip(np.float32(2.0) * (np.cos(along) + np.cos(across)) - 1.0, -1.0, 1.0)


def _clouds(rng: np.random.Generator, size: tuple[int, int], period: float) -> Floats:
    height, width = size
    rows, columns = int(height / period) + 3, int(width / period) + 3
    coarse = rng.normal(0.0, 0.6, (rows, columns)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, -1.0, 1.0)


_FIELDS: dict[str, Callable[[np.random.Generator, tuple[int, int], float], Floats]] = {
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "clouds": _clouds,
}
KINDS: tuple[str, ...] = tuple(_FIELDS)
"""Names of the textures."""


def paint(
    rng: np.random.Generator,
    colour: Floats,
    size: tuple[int, int],
    extent: float,
    kinds: Sequence[str] = KINDS,
) -> Floats:
    """Return a patch [H, W, 3] around `colour` with a texture drawn from `kinds`.

    The texture has three to eight periods over `extent` pixels and changes a channel by a few
    levels.
    """
    kind = kinds[int(rng.integers(len(kinds)))]
    period = max(extent / rng.uniform(3.0, 8.0), 4.0)
    tint = (rng.uniform(*_STRENGTH) * rng.uniform(0.4, 1.0, 3)).astype(np.float32)
    return colour + _FIELDS[kind](rng, size, period)[..., None] * tint


def finish(rng: np.random.Generator, image: Floats) -> npt.NDArray[np.uint8]:
    """Add uneven light and grain to an image [H, W, 3] and round it."""
    height, width = image.shape[:2]
    slope_x, slope_y = rng.uniform(-_LIGHT, _LIGHT, 2)
    x = np.linspace(-slope_x, slope_x, width, dtype=np.float32)
    y = np.linspace(-slope_y, slope_y, height, dtype=np.float32)
    light = 1.0 + x + y[:, None]
    grain = np.float32(_GRAIN) * rng.standard_normal((height, width, 1), dtype=np.float32)
    return np.clip(np.rint(image * light[..., None] + grain), 0, 255).astype(np.uint8)
