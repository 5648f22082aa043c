"""One folder per class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from config.options import Options
from data.images import EXTENSIONS, files_below, read_image
from data.kinds import CLASSIFICATION_DATASETS


@CLASSIFICATION_DATASETS.register("places365")
@CLASSIFICATION_DATASETS.register("imagenet")
class ImageFolder:
    """`root/<class>/**/*.jpg`; a class's index is the place of its folder in sorted order.

    `classes` are the names of the classes, `paths` the files relative to their folders, `labels`
    int64 [N]. Raises UserError, naming the folder, if there is none or a class has no image.
    """

    def __init__(self, options: Options, *, root: str | None, split: str):
        self.key = f"dataset.root_{split}"
        if not root:
            raise UserError(
                f"{self.key}: no folder is given; set {self.key}=FOLDER with one sub-folder per class"
            )
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(
                f"{self.key}: no folder {self.root.absolute()}; one with a sub-folder per class is "
                "expected"
            )
        self.folders = self._folders()
        files = [files_below(self.root / name) for name in self.folders]
        empty = [name for name, found in zip(self.folders, files, strict=True) if not found]
        if empty:
            raise UserError(
                f"{self.key}: {len(empty)} class folder(s) without an image "
                f"({', '.join(EXTENSIONS)}), first {self.root / empty[0]}; add images or remove the "
                "folder"
            )
        self.paths = np.array([path for found in files for path in found])
        self._ends = np.cumsum([len(found) for found in files])
        self.classes, numbers = self._numbered()
        self.labels: npt.NDArray[np.int64] = np.repeat(numbers, [len(found) for found in files])

    def _folders(self) -> tuple[str, ...]:
        folders = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        folders = [name for name in folders if not name.startswith(".")]
        if not folders:
            raise UserError(
                f"{self.key}: {self.root.absolute()} has no sub-folders; one per class is expected"
            )
        return tuple(folders)

    def _numbered(self) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
        """The names of all classes, and the class of each folder; here they are the same."""
        return self.folders, np.arange(len(self.folders))

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image, uint8 [H, W, 3] RGB, and its class index."""
        return read_image(self.describe(index)), int(self.labels[index])

    def describe(self, index: int) -> str:
        """The path of the image."""
        folder = self.folders[np.searchsorted(self._ends, index, side="right")]
        return str(self.root / folder / self.paths[index])
