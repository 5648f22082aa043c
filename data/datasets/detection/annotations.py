"""Reading a file of COCO's instances format into a few arrays, with every record checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from data.datasets.detection.categories import Categories
from data.datasets.detection.objects import Floats, Numbers, Truth


@dataclass(frozen=True)
class Annotations:
    """N images and their K annotation records, those of image i at `offsets[i]:offsets[i + 1]`.

    Arrays, not objects: they are passed to worker processes, where a large dictionary would be
    copied page by page. `sizes` int64 [N, 2] (height, width), pixels, 0 where the file gives none;
    `offsets` int64 [N + 1]; `numbers` int64 [K] the records' own ids; the rest is as in `Truth`.
    """

    image_ids: Numbers
    names: npt.NDArray[np.str_]
    sizes: Numbers
    offsets: Numbers
    numbers: Numbers
    boxes: Floats
    labels: Numbers
    area: Floats
    crowd: npt.NDArray[np.bool_]

    def annotated(self) -> Annotations:
        """The same without the images that have no record."""
        kept = np.diff(self.offsets) > 0
        return replace(
            self,
            image_ids=self.image_ids[kept],
            names=self.names[kept],
            sizes=self.sizes[kept],
            offsets=np.append(self.offsets[:-1][kept], self.offsets[-1]),
        )

    def truth(self, index: int) -> Truth:
        """The records of one image."""
        place = slice(self.offsets[index], self.offsets[index + 1])
        return Truth(
            int(self.image_ids[index]),
            self.boxes[place],
            self.labels[place],
            self.area[place],
            self.crowd[place],
        )


def read_annotations(path: Path) -> tuple[Annotations, Categories]:
    """The images in the order of the file, each with its records in the order of the file.

    Optional: an annotation's id, area and iscrowd, an image's height and width, and all that
    boxes do not need. UserError, in one line with the place, for text that is no JSON, a structure
    that is not COCO's, an id that occurs twice, and an annotation of an unknown image or category.
    """
    content = _parsed(path)
    images, records = _Table(path, content, "images"), _Table(path, content, "annotations")
    categories = _categories(_Table(path, content, "categories"))
    image_ids = images.unique("id")
    owners, labels = records.column("image_id", _WHOLE), records.column("category_id", _WHOLE)
    known = dict(zip(image_ids.tolist(), range(len(image_ids)), strict=True))
    records.check_known("image_id", owners, known, "image")
    records.check_known("category_id", labels, set(categories.ids), "category")
    for place, record in enumerate(records.entries, 1):
        record.setdefault("id", place)
    boxes = records.column("bbox", _BOX).reshape(-1, 4)
    area = records.column("area", _NUMBER, default=float("nan"))
    places = np.array([known[owner] for owner in owners.tolist()], np.int64)
    order = np.argsort(places, kind="stable")  # by image, otherwise as in the file
    annotations = Annotations(
        image_ids=image_ids,
        names=images.column("file_name", _TEXT),
        sizes=np.stack([images.column(key, _SIZE, default=0) for key in ("height", "width")], 1),
        offsets=np.searchsorted(places[order], np.arange(len(image_ids) + 1)).astype(np.int64),
        numbers=records.unique("id")[order],
        boxes=boxes[order],
        labels=categories.labels(labels)[order],
        area=np.where(np.isnan(area), boxes[:, 2] * boxes[:, 3], area)[order],
        crowd=records.column("iscrowd", _FLAG, default=0).astype(np.bool_)[order],
    )
    return annotations, categories


def _parsed(path: Path) -> Any:
    """The content of the file without segmentations, which are most of it."""

    def lean(entry: dict[str, Any]) -> dict[str, Any]:
        entry.pop("segmentation", None)  # at once: all together take gigabytes
        return entry

    try:
        # some tools write a byte order mark
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_hook=lean)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise UserError(f"{place}: not JSON ({error.msg}); is the file complete?") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the annotations ({error.strerror})") from None


def _categories(table: _Table) -> Categories:
    if not table.entries:
        raise UserError(f"{table.file}: 'categories' is empty; name the classes there")
    return Categories(
        tuple(table.unique("id").tolist()), tuple(table.column("name", _TEXT).tolist())
    )


@dataclass(frozen=True)
class _Kind:
    """A type of values: what messages call it, and whether a value is one."""

    word: str
    accepts: Callable[[Any], bool]
    dtype: Any = np.int64


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_whole(value)


_WHOLE = _Kind("a whole number", _is_whole)
_SIZE = _Kind("a size in pixels", lambda v: type(v) is int and 0 <= v < 2**31)
_FLAG = _Kind("0 or 1", lambda v: v in (0, 1))
_NUMBER = _Kind("a number", _is_number, np.float64)
_TEXT = _Kind("a text", lambda v: isinstance(v, str) and v != "", np.str_)
_BOX = _Kind(
    "a list of 4 numbers (x, y, width, height)",
    lambda v: isinstance(v, list) and len(v) == 4 and all(map(_is_number, v)),
    np.float64,
)
_REQUIRED = object()


class _Table:
    """A list of the file: its entries are mappings, of which a column is one key of all."""

    def __init__(self, file: Path, content: Any, name: str):
        self.file, self.name = file, name
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(
                f"{file}: no list {name!r}; a file of COCO's instances format is expected, with "
                "images, annotations and categories"
            )
        self.entries: list[dict[str, Any]] = entries
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise UserError(f"{self._at(place)}: a mapping is expected ({_shown(entry)} given)")

    def column(self, key: str, kind: _Kind, default: Any = _REQUIRED) -> npt.NDArray[Any]:
        """The values of a key; UserError naming the first that is missing or of another kind."""
        values = [entry.get(key) for entry in self.entries]
        if default is not _REQUIRED:
            values = [default if value is None else value for value in values]
        for place, value in enumerate(values):
            if not kind.accepts(value):
                given = f"{_shown(value)} given" if key in self.entries[place] else "it is missing"
                raise UserError(f"{self._at(place)}.{key}: {kind.word} is expected ({given})")
        return np.array(values, kind.dtype)

    def unique(self, key: str) -> Numbers:
        """A column of whole numbers, each of which occurs once."""
        values: Numbers = self.column(key, _WHOLE)
        seen: dict[int, int] = {}
        for place, value in enumerate(values.tolist()):
            if value in seen:
                raise UserError(
                    f"{self._at(place)}.{key}: {value} is already the {key} of "
                    f"{self.name}[{seen[value]}]; give every entry its own"
                )
            seen[value] = place
        return values

    def check_known(self, key: str, values: Numbers, known: Any, what: str) -> None:
        """UserError naming the first value that is not in `known`, and how many there are."""
        wrong = [place for place, value in enumerate(values.tolist()) if value not in known]
        if wrong:
            raise UserError(
                f"{self._at(wrong[0])}.{key}: no {what} has the id {values[wrong[0]]} "
                f"({len(wrong)} such annotations); remove them or add the {what}"
            )

    def _at(self, place: int) -> str:
        return f"{self.file}: {self.name}[{place}]"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
