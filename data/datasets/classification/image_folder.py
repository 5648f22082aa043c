"""One's own images in one folder: a part of each class is put aside for validation."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from config.errors import UserError
from config.options import OPERATIONAL, Options
from data.datasets.classification.imagenet import ImageFolder
from data.datasets.classification.label_table import KEY, Row, columns, read_rows
from data.datasets.classification.subset import Subset
from data.images import EXTENSIONS, files_below, read_image
from data.kinds import CLASSIFICATION_DATASETS


class ImageFolderOptions(Options):
    """`dataset.image_folder`: where the labels are, and which images validate."""

    labels: str | None = Field(
        None,
        description="CSV file with a header that names the class of each image; null: its folder is "
        "its class",
        json_schema_extra=OPERATIONAL,
    )
    file_column: str | None = Field(
        None, description="column of the file names; null: found by its name"
    )
    label_column: str | None = Field(
        None, description="column of the labels; null: found by its name"
    )
    val_percentage: float = Field(
        20.0, gt=0, lt=100, description="share of the images of each class that validate, %"
    )
    split_seed: int = Field(0, ge=0, description="seed of the choice of these images")


@CLASSIFICATION_DATASETS.register("image_folder", options=ImageFolderOptions)
class SplitFolder(Subset):
    """`root/<class>/**/*.jpg`, or images anywhere and a CSV file; both splits from one folder.

    `validates` says which images validate; a test split (`dataset.root_test`) is all images of its
    folder. UserError for a class with one image, and for a table that does not fit the images.
    """

    def __init__(self, options: ImageFolderOptions, *, root: str | None, split: str):
        every: ImageFolder | TableImages
        if options.labels is None:
            _check_no_columns(options)
            every = ImageFolder(options, root=root, split=split)
        else:
            every = TableImages(options, root=root, split=split)
        part = np.arange(len(every))
        if split != "test":
            _check_counts(every, f"dataset.root_{split}")
            names = [
                Path(every.describe(i)).relative_to(every.root).as_posix()
                for i in range(len(every))
            ]
            held_out = validates(names, every.labels, options.val_percentage, options.split_seed)
            part = np.flatnonzero(held_out == (split == "val"))
        super().__init__(every, part)


def validates(
    names: Sequence[str], labels: npt.NDArray[np.int64], percentage: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Whether each image validates, bool [N]; `names` are paths relative to the folder.

    An image does if its lot, a hash of (seed, name), is below the percentage: other images do not
    count. In a class where all or none would, the one nearest to the limit changes sides, so
    that both splits have an image of a class of two. Only there can a new image move another one.
    """
    lots = np.array([_lot(name, seed) for name in names])
    chosen = lots < percentage / 100
    by_class = np.lexsort((lots, labels))
    _, starts = np.unique(labels[by_class], return_index=True)
    for members in np.split(by_class, starts[1:]):  # in the order of their lots
        chosen[members[0]] = True
        chosen[members[-1]] = False
    return chosen


def _lot(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on the name, however its accents are coded, and the seed."""
    text = f"{seed}/{unicodedata.normalize('NFC', name)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _check_no_columns(options: ImageFolderOptions) -> None:
    for key in ("file_column", "label_column"):
        if getattr(options, key) is not None:
            raise UserError(
                f"{KEY}.{key}: is read only with a table of labels; give it, too ({KEY}.labels=FILE)"
            )


def _check_counts(images: ImageFolder | TableImages, key: str) -> None:
    single = np.flatnonzero(np.bincount(images.labels) == 1)
    if len(single):
        first = images.describe(int(np.flatnonzero(images.labels == single[0])[0]))
        raise UserError(
            f"{key}: {len(single)} class(es) with one image, first {images.classes[single[0]]} "
            f"({first}); training and validation need one each: add images or remove the class"
        )


class TableImages:
    """Images anywhere below `root`, with the classes that a table names.

    `classes` are the labels in sorted order, `paths` the files relative to `root`, `labels` int64 [N];
    images of a class stand together, in sorted order, as those of folders do.
    """

    def __init__(self, options: ImageFolderOptions, *, root: str | None, split: str):
        key, table = f"dataset.root_{split}", str(options.labels)
        if not root:
            raise UserError(f"{key}: no folder is given; set {key}=FOLDER with the images")
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{key}: no folder {self.root.absolute()}; one with images is expected")
        rows = read_rows(table, columns(table, options.file_column, options.label_column))
        advice = "correct the name, remove the row, or say which column has the file names "
        advice += f"with {KEY}.file_column=COLUMN"
        if split == "test":  # that of training mostly names no image of another folder
            advice = f"{key} needs a table of its own images ({KEY}.labels=FILE)"
        missing = f"below {self.root}; {advice}"
        pairs = sorted(
            (row.label, path) for row, path in _resolved(rows, table, self.root, missing)
        )
        self.classes = tuple(sorted({label for label, _ in pairs}))
        numbers = {label: number for number, label in enumerate(self.classes)}
        self.paths = np.array([path for _, path in pairs])
        self.labels = np.array([numbers[label] for label, _ in pairs], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image, uint8 [H, W, 3] RGB, and its class index."""
        return read_image(self.describe(index)), int(self.labels[index])

    def describe(self, index: int) -> str:
        """The path of the image."""
        return str(self.root / self.paths[index])


def _resolved(
    rows: Sequence[Row], table: str, root: Path, missing: str
) -> Iterator[tuple[Row, str]]:
    """Every row with its image, a path relative to `root`.

    A row names a path in `root` or beside the table, or what one image alone is called, with or
    without its ending. UserError for a row that names no image, several, or that of another row;
    `missing` is what to say after the name of one that is not there.
    """
    present = {_spelt(path): path for path in files_below(root)}
    called: dict[str, set[str]] = defaultdict(set)
    for spelt, path in present.items():
        without_ending = spelt.rpartition(".")[0]
        for name in (without_ending, Path(spelt).name, Path(without_ending).name):
            called[name].add(path)
    taken: dict[str, int] = {}
    for row in rows:
        beside = os.path.relpath(os.path.join(os.path.dirname(table), row.file), root)
        names = (_spelt(row.file), _spelt(beside))
        direct = [{present[name]} for name in names if name in present]
        found = direct[0] if direct else called[names[0]] | called[names[1]]
        path = _only(row, found, table, root, missing)
        if path in taken:
            raise UserError(
                f"{table}:{row.line}: {row.file} stands in line {taken[path]} already; keep one row for "
                "each image"
            )
        taken[path] = row.line
        yield row, path


def _only(row: Row, found: set[str], table: str, root: Path, missing: str) -> str:
    place = f"{table}:{row.line}"
    if len(found) > 1:
        raise UserError(
            f"{place}: {len(found)} images are called {row.file}, e.g. "
            f"{' and '.join(sorted(found)[:2])}; give the path"
        )
    if found:
        return next(iter(found))
    if (root / row.file).is_file():
        kinds = ", ".join(EXTENSIONS)
        raise UserError(f"{place}: {row.file} is no image that is read ({kinds}, not hidden)")
    raise UserError(f"{place}: no image {row.file} {missing}")


def _spelt(path: str) -> str:
    """A path in one spelling, whatever the separators, dots and codes of accents were."""
    return unicodedata.normalize("NFC", os.path.normpath(path.replace("\\", "/")))
