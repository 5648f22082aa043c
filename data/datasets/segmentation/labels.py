"""The classes of a data set, and the values that mask files hold instead of their indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from config.errors import UserError

IGNORE = 255
"""The class index of pixels that count neither in the loss nor in a metric."""

RGB = tuple[int, int, int]
Mask = npt.NDArray[np.uint8]
_SHOWN = 8  # values in a message


@dataclass(frozen=True)
class Labels:
    """Names of the classes by index, the raw value of each in mask files, and a colour of each.

    `ignored` are the raw values of pixels that are left out. Every other value is refused. This is
    the one place where raw values and class indices meet. Raises UserError for more than 255
    classes, a value outside 0..255, or a value that occurs twice.
    """

    names: tuple[str, ...]
    raw: tuple[int, ...]
    ignored: tuple[int, ...]
    colors: tuple[RGB, ...]

    @classmethod
    def of(
        cls, names: Sequence[str], raw: Sequence[int], ignored: Sequence[int] | None = None
    ) -> Labels:
        """With the colour that VOC's palette has for each raw value; `ignored` is 255 unless given
        (or unless 255 is a class)."""
        if ignored is None:
            ignored = () if IGNORE in raw else (IGNORE,)
        palette = voc_palette().tolist()
        colors = tuple((r, g, b) for r, g, b in (palette[value % 256] for value in raw))
        return cls(tuple(names), tuple(raw), tuple(ignored), colors)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.raw) == len(self.colors):
            raise UserError(
                f"{len(self.names)} names of classes, {len(self.raw)} values and "
                f"{len(self.colors)} colours; each class needs one of each"
            )
        if not 1 <= len(self.names) <= IGNORE:
            raise UserError(
                f"{len(self.names)} classes; a mask of 8 bits holds 1 to {IGNORE} of them"
            )
        every = (*self.raw, *self.ignored)
        if wrong := [value for value in every if not 0 <= value <= 255]:
            raise UserError(f"value {wrong[0]} is outside 0..255, the values of a mask of 8 bits")
        if twice := [value for n, value in enumerate(every) if value in every[:n]]:
            raise UserError(
                f"value {twice[0]} occurs twice among those of classes and ignored ones"
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def table(self) -> Mask:
        """uint8 [256]: raw value -> class index, IGNORE for all that are no class."""
        table = np.full(256, IGNORE, np.uint8)
        table[list(self.raw)] = np.arange(len(self), dtype=np.uint8)
        return table

    def classes(self, raw: Mask) -> Mask:
        """Raw values, uint8 of any shape -> class indices."""
        found: Mask = self.table[raw]
        return found

    def raw_of(self, classes: Mask) -> Mask:
        """Class indices -> raw values as in mask files; IGNORE becomes the first ignored one, or
        where there is none the largest that is no class."""
        others = self.ignored[:1] or (max(set(range(256)) - set(self.raw)),)
        table = np.full(256, others[0], np.uint8)
        table[: len(self)] = self.raw
        found: Mask = table[classes]
        return found

    def check(self, raw: Mask, path: Path | str) -> None:
        """UserError if a mask holds a value that is neither a class nor ignored."""
        if self._known[raw].all():
            return
        counts = np.bincount(raw.ravel(), minlength=256) * ~self._known
        values = np.flatnonzero(counts)
        shown = ", ".join(f"{value} ({counts[value]} pixels)" for value in values[:_SHOWN])
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        raise UserError(
            f"{path}: the mask has values that are neither a class nor ignored: {shown}{more}; "
            f"classes are {_ranges(self.raw)}, ignored {_ranges(self.ignored) or 'none'}"
        )

    @cached_property
    def _known(self) -> npt.NDArray[np.bool_]:
        known = np.zeros(256, np.bool_)
        known[[*self.raw, *self.ignored]] = True
        return known


def voc_palette() -> Mask:
    """The colours of PASCAL VOC's labels, [256, 3] RGB: the bits of the index, dealt in turn."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


def _ranges(values: tuple[int, ...]) -> str:
    """Numbers in words: "0..20, 255"."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{a}..{b}" if b > a else str(a) for a, b in runs)
