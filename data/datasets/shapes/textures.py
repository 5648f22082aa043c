"""Colours and textures of the generated data set.

Colours are float32 [3] RGB in 0..255, fields float32 [H, W] in [-1, 1]. Contrast is guaranteed
where a colour is picked: its brightness keeps a distance from that of everything around it, and
a texture moves brightness by less than half of that distance.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G and B in brightness (ITU-R BT.601), which keeps the range 0..255."""

_CANDIDATES = 24  # colours drawn at once
_ROUNDS = 8  # draws before the best colour so far is taken


def pick_colour(
    rng: np.random.Generator,
    beside: Sequence[np.ndarray] = (),
    over: Sequence[np.ndarray] = (),
    luma_gap: float = 80.0,
    colour_gap: float = 90.0,
) -> np.ndarray:
    """Draw a colour that stands out.

    Args:
        rng: source of randomness.
        beside: colours from which the brightness must differ by ``luma_gap`` (0..255).
        over: colours from which the RGB vector must differ by ``colour_gap`` (0..441).
    """
    best, best_margin = None, -np.inf
    for _ in range(_ROUNDS):
        colours = _random_colours(rng)
        margin = np.full(len(colours), np.inf)
        for colour in beside:
            margin = np.minimum(margin, np.abs((colours - colour) @ LUMA) / luma_gap)
        for colour in over:
            margin = np.minimum(margin, np.linalg.norm(colours - colour, axis=1) / colour_gap)
        first = int(np.argmax(np.minimum(margin, 1.0)))  # the first good one, else the best
        if margin[first] > best_margin:
            best, best_margin = colours[first], margin[first]
        if best_margin >= 1.0:
            break
    return best


def _random_colours(rng: np.random.Generator) -> np.ndarray:
    """Colours of any hue, neither grey nor garish, float32 [N, 3] in 0..255."""
    hue, saturation, value = rng.random((3, _CANDIDATES, 1))
    saturation, value = 0.2 + 0.6 * saturation, 0.22 + 0.76 * value
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue) % 6.0
    dip = np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    return (255.0 * value * (1.0 - saturation * dip)).astype(np.float32)


def _coordinates(rng, height, width, period):
    """Phases along and across a random direction, each [H, W] in radians per ``period`` pixels."""
    angle, *phase = rng.uniform(0.0, 2.0 * np.pi, 3)
    cos, sin = 2.0 * np.pi / period * np.cos(angle), 2.0 * np.pi / period * np.sin(angle)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return x * np.float32(cos) + y * np.float32(sin) + np.float32(phase[0]), (
        y * np.float32(cos) - x * np.float32(sin) + np.float32(phase[1])
    )


def _gradient(rng, height, width, period):
    along, _ = _coordinates(rng, height, width, period)
    low, high = along.min(), along.max()
    return (along - low) * (2.0 / max(high - low, 1e-6)) - 1.0


def _stripes(rng, height, width, period):
    along, _ = _coordinates(rng, height, width, period)
    return np.clip(2.5 * np.sin(along), -1.0, 1.0)


def _checks(rng, height, width, period):
    along, across = _coordinates(rng, height, width, 1.4 * period)
    return np.clip(6.0 * np.sin(along) * np.sin(across), -1.0, 1.0)


def _dots(rng, height, width, period):
    along, across = _coordinates(rng, height, width, period)
    return np.clip(2.0 * (np.cos(along) + np.cos(across)) - 1.0, -1.0, 1.0)


def _clouds(rng, height, width, period):
    rows, columns = int(height / period) + 3, int(width / period) + 3
    coarse = rng.normal(0.0, 0.6, (rows, columns)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), -1.0, 1.0)


_FIELDS: dict[str, Callable[..., np.ndarray]] = {
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "clouds": _clouds,
}
KINDS: tuple[str, ...] = tuple(_FIELDS)
"""Kinds of texture."""


def paint(
    rng: np.random.Generator,
    kind: str,
    colour: np.ndarray,
    size: tuple[int, int],
    period: float,
    strength: float,
) -> np.ndarray:
    """Return a textured patch, float32 [H, W, 3] around ``colour``.

    ``period`` is the texture's length in pixels; ``strength`` (0..255) bounds the change of
    every channel and hence of brightness.
    """
    tint = rng.uniform(0.4, 1.0, 3).astype(np.float32) * np.float32(strength)
    field = _FIELDS[kind](rng, *size, period)
    return colour + field[..., None] * tint
