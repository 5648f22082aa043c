"""A table of labels: a CSV file that names the class of each image."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from config.errors import UserError, suggestion

KEY = "dataset.image_folder"
# How people call these columns, in small letters; the first that is there counts.
FILE_COLUMNS = (
    *("file_name", "filename", "file", "image_file", "image", "images", "img", "image_name"),
    *("path", "file_path", "filepath", "image_path", "img_path", "image_id", "img_id", "id"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "classname", "class_label", "category", "target"),
    *("label_name", "class_id", "label_id", "category_id"),
)
DELIMITERS = ",;\t"


class Columns(NamedTuple):
    """The names of the two columns that are read, as the file spells them."""

    file: str
    label: str


class Row(NamedTuple):
    """One row: the number of its line, counted from 1, the file as it is written there, the label."""

    line: int
    file: str
    label: str


def columns(path: str | Path, file: str | None = None, label: str | None = None) -> Columns:
    """The columns of the file name and of the label, those asked for or found by their usual names.

    UserError if the file cannot be read or a column is not there.
    """
    line, header = next(_records(path), (1, []))
    if not header:
        raise UserError(f"{path}: is empty; a header and a row for each image are expected")
    place = f"{path}:{line}"
    return Columns(
        _found(header, file, FILE_COLUMNS, place, "file_column", "of file names"),
        _found(header, label, LABEL_COLUMNS, place, "label_column", "of labels"),
    )


def read_rows(path: str | Path, chosen: Columns) -> list[Row]:
    """All rows. UserError that names the line for one without file or label, or of another length."""
    records = _records(path)
    _, header = next(records)
    places = [header.index(name) for name in chosen]
    rows = []
    for line, fields in records:
        if len(fields) != len(header):
            raise UserError(
                f"{path}:{line}: {len(fields)} fields, but the header has {len(header)}; quote those "
                "that hold a separator"
            )
        file, label = (fields[place] for place in places)
        for value, column in ((file, chosen.file), (label, chosen.label)):
            if not value:
                raise UserError(
                    f"{path}:{line}: nothing in {column!r}; fill it in or remove the row"
                )
        rows.append(Row(line, file, label))
    if not rows:
        raise UserError(f"{path}: has a header, but no rows; one for each image is expected")
    return rows


def _found(
    header: Sequence[str], asked: str | None, usual: Sequence[str], place: str, key: str, what: str
) -> str:
    if asked is not None:
        if asked not in header:
            hint = suggestion(asked, filter(None, header))
            raise UserError(f"{place}: no column is called {asked!r} ({KEY}.{key}) - {hint}")
        return asked
    spelt = {re.sub(r"\W+", "_", name.casefold()).strip("_"): name for name in reversed(header)}
    found = next((spelt[name] for name in usual if name in spelt), None)
    if found is None:
        raise UserError(
            f"{place}: no column {what} ({', '.join(usual[:4])}, ...) among "
            f"{', '.join(filter(None, header))}; say which one it is with {KEY}.{key}=COLUMN"
        )
    return found


def _records(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every line that is not blank; spaces around a field are none of it."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the table of labels ({error.strerror or error})"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as CSV UTF-8") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a table of labels ({error})") from None
