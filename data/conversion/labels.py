"""What the readers of labels hand to the writer, and how they read text and report mistakes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from config.errors import Problem, RecipeError, UserError

_SHOWN = 10  # mistakes told at once


class LabelledObject(NamedTuple):
    """An object in pixels from the image's top left corner, as the labels have it.

    `box` is (left, top, right, bottom) of its edges, `polygon` (x1, y1, x2, y2, ...) its outline
    or empty, `place` the file:line it stands at, `crowd` COCO's iscrowd.
    """

    name: str
    box: tuple[float, ...]
    place: str
    polygon: tuple[float, ...] = ()
    crowd: bool = False


class LabelledImage(NamedTuple):
    """An image file; `size` is (width, height), `split` "train", "val" or "" if none is given."""

    path: Path
    split: str
    size: tuple[int, int]
    objects: tuple[LabelledObject, ...]


class Labels(NamedTuple):
    """All that was read: the classes in order, and the images."""

    classes: tuple[str, ...]
    images: list[LabelledImage]


def read_bytes(path: Path) -> bytes:
    """The content of a file. UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the file ({error.strerror or error})") from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of the lines that are not blank. UserError if it is not UTF-8."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def number(text: str) -> float:
    """A finite number. ValueError says what stands there instead."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"a number is expected ({text!r} given)")
    return value


def refuse(mistakes: list[Problem]) -> None:
    """Raise the first mistakes of the labels together, if there are any."""
    rest = len(mistakes) - _SHOWN
    more = [Problem("labels", "", f"and {rest} more mistakes like these")] if rest > 0 else []
    if mistakes:
        raise RecipeError([*mistakes[:_SHOWN], *more])
