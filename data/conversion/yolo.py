"""Reads labels of YOLO: one text file per image, one object per line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from config.errors import Problem, RecipeError, UserError
from config.source import Scalar, Value, load_file
from data.conversion.findings import Findings
from data.conversion.labels import LabelledObject, Labels, number, numbered_lines
from data.conversion.layouts import (
    SPLITS,
    LabelFiles,
    Listed,
    images_below,
    images_by_folder,
    split_lists,
)

_NO_LABELS = r"(classes|train|training|val|valid|validation|test|notes|readme.*)\.txt"
_CLASS_FILES = ("classes.txt", "*.names", "*/classes.txt")
_BOX, _POLYGON = 5, 7  # values in the line of a box; fewest in that of a polygon
_FAR = (-1.0, 2.0)  # what lies beyond is no share of the image's side; it may be pixels


def read_yolo(folder: Path, findings: Findings) -> Labels:
    """Read `folder`: with a data.yaml (or being one), or with classes.txt or obj.names.

    A line is `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`, in shares of the image's sides.
    Raises UserError with file:line for all that cannot be understood.
    """
    description = _description(folder)
    if description:
        names, listed = _described(description)
    else:
        names, lists = _names_of_file(folder), split_lists(folder)
        listed = [(split, p) for split, path in lists.items() for p in _of_list(path, [folder])]
        listed = listed or images_by_folder(folder)

    def read(label: Path, size: tuple[int, int]) -> Iterator[LabelledObject | Problem]:
        for line, text in numbered_lines(label):
            place = f"{label}:{line}"
            try:
                yield _object(text, names, size, place)
            except ValueError as error:
                yield Problem(place, "", str(error))

    files = LabelFiles(".txt", {"images": ("labels",)}, _NO_LABELS, read)
    return Labels(tuple(names.values()), files.read_all(listed, findings))


def _object(
    text: str, names: Mapping[int, str], size: tuple[int, int], place: str
) -> LabelledObject:
    """Read one line. Raises ValueError."""
    index, *shares = map(number, text.split())
    if index not in names:
        raise ValueError(f"class {index:g} is not among the {len(names)} classes (from 0 on)")
    count = 1 + len(shares)
    if count != _BOX and (count < _POLYGON or count % 2 == 0):
        form = "`class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`"
        raise ValueError(f"{form} is expected ({count} values given)")
    if odd := [share for share in shares if not _FAR[0] <= share <= _FAR[1]]:
        raise ValueError(f"shares of the image's sides are expected, not pixels ({odd[0]:g} given)")
    xs, ys = ([share * side for share in shares[axis::2]] for axis, side in enumerate(size))
    if count == _BOX:
        (x, width), (y, height) = xs, ys
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return LabelledObject(names[int(index)], box, place)
    polygon = tuple(value for point in zip(xs, ys, strict=True) for value in point)
    return LabelledObject(names[int(index)], (min(xs), min(ys), max(xs), max(ys)), place, polygon)


def _names_of_file(folder: Path) -> dict[int, str]:
    """The classes by number, from a text file with one name per line."""
    path = next((path for form in _CLASS_FILES for path in sorted(folder.glob(form))), None)
    if not path:
        raise UserError(f"{folder}: nothing names the classes; add a data.yaml or a classes.txt")
    lines = numbered_lines(path)
    blank = [place for place, (line, _) in enumerate(lines, 1) if line != place]
    if blank:
        raise UserError(f"{path}:{blank[0]}: a blank line; every line is the name of a class")
    return _checked({line - 1: name for line, name in lines}, str(path))


def _checked(names: dict[int, str], place: str) -> dict[int, str]:
    known = [*names.values()]
    twice = [name for name in known if known.count(name) > 1]
    if twice or not known:
        text = f"two classes are called {twice[0]!r}" if twice else "no class is named"
        raise UserError(f"{place}: {text}; give each class a name of its own")
    return names


# --- data.yaml -----------------------------------------------------------------------------------


def _entries(value: Any) -> Any:
    """One text or several; none is written in many ways."""
    return ([] if value in ("", "~", "null") else [value]) if isinstance(value, str) else value


_Entries = Annotated[list[str], BeforeValidator(_entries)]


class _Description(BaseModel):
    """A data.yaml as Ultralytics and Roboflow write it; other keys do not matter."""

    path: str = ""
    train: _Entries = Field(min_length=1)
    val: _Entries = []
    test: _Entries = []
    nc: int | None = None
    names: dict[int, str]


def _description(folder: Path) -> Path | None:
    """The YAML file that describes the data, if there is one."""
    if folder.is_file():
        return folder
    found = sorted(folder.glob("data.yaml")) or sorted(folder.glob("*.y*ml"))
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{folder}: {names}; give the path of the one that is meant")
    return found[0] if found else None


def _plain(value: Value) -> Any:
    """The tree as Python's dictionaries, lists and texts."""
    if isinstance(value.data, dict):
        return {key: _plain(item) for key, item in value.data.items()}
    if isinstance(value.data, list):
        return [_plain(item) for item in value.data]
    return value.data.text if isinstance(value.data, Scalar) else value.data


def _described(path: Path) -> tuple[dict[int, str], list[Listed]]:
    """The classes by number and the images of a data.yaml."""
    problems: list[Problem] = []
    tree = load_file(path, problems)
    if problems:
        raise RecipeError(problems)
    given = _plain(tree) if isinstance(tree.data, dict) else {}
    places = {key: tree.data[key].place for key in given}
    if "kpt_shape" in given:
        raise UserError(f"{places['kpt_shape']}: labels of poses; boxes or outlines are expected")
    if isinstance(given.get("names"), list):
        given["names"] = dict(enumerate(given["names"]))
    try:
        about = _Description.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UserError(f"{places.get(key, path)}: {key}: {first['msg'].lower()}") from None
    if about.nc not in (None, len(about.names)):
        raise UserError(f"{places['nc']}: nc: {about.nc}, but there are {len(about.names)} names")
    home = path.parent
    bases = [home / Path(about.path).expanduser(), home]
    listed = [
        (split, image)
        for split in SPLITS
        for entry in getattr(about, split)
        for image in _images(entry, bases, f"{places[split]}: {split}")
    ]
    return _checked(dict(sorted(about.names.items())), places["names"]), listed


def _images(entry: str, bases: Sequence[Path], place: str) -> list[Path]:
    """The images of a folder, or of a list of images."""
    found = next((path for path in _places(entry, bases) if path.exists()), None)
    if not found:
        tried = " or ".join(map(str, dict.fromkeys(_places(entry, bases))))
        raise UserError(f"{place}: there is no {tried}")
    return images_below(found) if found.is_dir() else list(_of_list(found, bases))


def _places(entry: str, bases: Sequence[Path]) -> Iterator[Path]:
    """Where a path of a description or of a list may lead, the likeliest place first."""
    entry = entry.replace("\\", "/")
    inside = re.sub(r"^(\.\.?/)+", "", entry)
    if entry.startswith("../"):  # Roboflow writes ../train/images for the train/images beside it
        yield from (base / inside for base in bases)
    yield from (Path(os.path.normpath(base / Path(entry).expanduser())) for base in bases)
    below = inside.partition("/")[2]  # darknet: from a folder above
    yield from (base / below for base in bases if below)


def _of_list(path: Path, bases: Sequence[Path]) -> Iterator[Path]:
    """The images that a list names; one that is not there is noted when it is opened."""
    for _, entry in numbered_lines(path):
        places = list(_places(entry, [path.parent, *bases]))
        yield next((place for place in places if place.is_file()), places[0])
