"""What a folder of one's own images is: which data set of a recipe reads it, and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from config.errors import UserError
from data.datasets.classification.image_folder import ImageFolderOptions
from data.datasets.classification.label_table import KEY, columns
from data.images import EXTENSIONS

TRAINING = ("train", "training")
VALIDATION = ("val", "valid", "validation", "test")
TABLES = (".csv", ".tsv")


class Layout(NamedTuple):
    """The section `dataset` of a recipe, and lines that say how the folder was understood."""

    dataset: dict[str, Any]
    lines: list[str]


def layout_of(folder: Path, asked: ImageFolderOptions) -> Layout:
    """How to read the images of `folder`. `asked`: what the user says of a CSV file and its columns.

    In this order: class folders in train/ and val/, two folders of classes, a CSV file in which a
    row is an image. A table counts first if it, or a column of it, is asked for, and not at all if
    `labels` is given as null. UserError if the folder is none of these.
    """
    choice = (asked.file_column, asked.label_column)
    labels = asked.labels
    if labels is None and (splits := _splits(folder, asked)):
        return splits
    unread: list[str] = []
    if "labels" not in asked.model_fields_set:
        if _has_classes(folder) and choice == (None, None):
            unread = _unread_tables(folder)
        elif table := _table(folder, choice):
            labels = str(table)
    if labels is not None:
        file, label = columns(labels, *choice)
        line = f"classes: column {label!r} of {labels}, for the files in column {file!r}"
        return _one_folder(folder, {"labels": labels}, line)
    if training := _child(folder, TRAINING):
        line = f"classes: the folders in {training}; there is no folder to validate with"
        return _one_folder(training, {}, line, *unread)
    if len(_class_folders(folder)) < 2:
        raise UserError(_no_classes(folder))
    return _one_folder(folder, {}, f"classes: the folders in {folder}", *unread)


def _one_folder(folder: Path, options: dict[str, str], *lines: str) -> Layout:
    root = str(folder)
    section = {"image_folder": options} if options else {}
    roots = {"root_train": root, "root_val": root}
    return Layout({"name": "image_folder"} | roots | section, [*lines])


def _splits(folder: Path, asked: ImageFolderOptions) -> Layout | None:
    train, val = _child(folder, TRAINING), _child(folder, VALIDATION)
    if train is None or val is None:
        return None
    lines = [f"classes and split: the folders in {train} and {val}", *_unread_tables(folder)]
    if keys := asked.model_fields_set - {"labels"}:
        names = ", ".join(f"{KEY}.{key}" for key in sorted(keys))
        lines.append(f"not read: {names} (the folders are the classes and the split)")
    return Layout({"name": "imagenet", "root_train": str(train), "root_val": str(val)}, lines)


def _unread_tables(folder: Path) -> list[str]:
    """The line on the tables of a folder whose classes are folders, if it has any."""
    tables = ", ".join(path.name for path in _tables(folder))
    return [f"not read: {tables} (--labels FILE reads one)"] if tables else []


def _has_classes(folder: Path) -> bool:
    """Whether folders can be the classes: train/ and test/ of loose images, for a table, are none."""
    inside = _class_folders(_child(folder, TRAINING) or folder)
    return sum(path.name.casefold() not in TRAINING + VALIDATION for path in inside) > 1


def _child(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first folder of one of these names, in any case, that has class folders."""
    inside = {path.name.casefold(): path for path in _folders(folder)}
    found = (inside[name] for name in names if name in inside)
    return next((path for path in found if _class_folders(path)), None)


def _table(folder: Path, choice: tuple[str | None, str | None]) -> Path | None:
    """The CSV file in `folder` that names files and labels, if there is one."""
    found, mistakes = [], []
    for path in _tables(folder):
        try:
            columns(path, *choice)
            found.append(path)
        except UserError as error:
            mistakes.append(error)
    if len(found) > 1:
        names = " and ".join(map(str, found[:2]))
        raise UserError(f"{folder}: {names} both name files and labels; choose one with --labels")
    if not found and mistakes:
        raise mistakes[0]
    return found[0] if found else None


def _tables(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in TABLES and not path.name.startswith(".")
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _class_folders(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if any(map(_is_image, _files(path)))]


def _files(folder: Path) -> Iterator[str]:
    """The names of all files in a folder and below."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (name for name in names if not name.startswith("."))


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _no_classes(folder: Path) -> str:
    """What to say of a folder without two classes."""
    for name in ("recipe.yaml", "config.yaml"):
        if (folder / name).is_file():
            return f"{folder}: is a folder of a run; cvnets train {folder / name} continues it"
    names = list(_files(folder))
    images = sum(map(_is_image, names))
    if not images:
        kinds = Counter(Path(name).suffix.lower() or name for name in names).most_common(3)
        there = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return (
            f"{folder}: no image in it or below ({', '.join(EXTENSIONS)}); "
            + (f"there are {there}; " if there else "it is empty; ")
            + "give a folder of images, or a recipe"
        )
    classes = _class_folders(folder)
    if classes and len(_class_folders(classes[0])) > 1:
        return f"{folder}: one class only, {classes[0].name}; did you mean {classes[0]}?"
    which = f"but one class only, {classes[0].name}" if classes else "but no class folders"
    return (
        f"{folder}: {images} image(s), {which}; put the images of each class into a folder of its own, "
        "or add a CSV file with a column of file names and one of labels"
    )
