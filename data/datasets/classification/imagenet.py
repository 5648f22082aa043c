"""One folder per class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from config.registry import NoOptions
from data.images import EXTENSIONS, read_image
from data.kinds import CLASSIFICATION_DATASETS


@CLASSIFICATION_DATASETS.register("imagenet")
class ImageFolder:
    """`root/<class>/**/*.jpg`; a class's index is the place of its folder in sorted order.

    `classes` are the folder names, `paths` the files relative to `root`, `labels` int64 [N].
    Raises UserError, naming the folder, if there is none or a class has no image.
    """

    def __init__(self, options: NoOptions, *, root: str | None, split: str):
        key = f"dataset.root_{split}"
        if not root:
            raise UserError(
                f"{key}: no folder is given; set {key}=FOLDER with one sub-folder per class"
            )
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(
                f"{key}: no folder {self.root.absolute()}; one with a sub-folder per class is expected"
            )
        folders = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        self.classes = tuple(name for name in folders if not name.startswith("."))
        if not self.classes:
            raise UserError(
                f"{key}: {self.root.absolute()} has no sub-folders; one per class is expected"
            )
        files = [_images(self.root / name) for name in self.classes]
        empty = [name for name, found in zip(self.classes, files, strict=True) if not found]
        if empty:
            raise UserError(
                f"{key}: {len(empty)} class folder(s) without an image ({', '.join(EXTENSIONS)}), "
                f"first {self.root / empty[0]}; add images or remove the folder"
            )
        self.paths = np.array([path for found in files for path in found])
        self.labels: npt.NDArray[np.int64] = np.repeat(
            np.arange(len(self.classes)), [len(found) for found in files]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image, uint8 [H, W, 3] RGB, and its class index."""
        return read_image(self.describe(index)), int(self.labels[index])

    def describe(self, index: int) -> str:
        """The path of the image."""
        label = self.classes[self.labels[index]]
        return str(self.root / label / self.paths[index])


def _images(folder: Path) -> list[str]:
    """The images below `folder`, as sorted paths relative to it."""
    found = []
    for base, folders, names in os.walk(folder):
        folders.sort()
        below = os.path.relpath(base, folder)
        found += [
            os.path.normpath(os.path.join(below, name))
            for name in sorted(names)
            if name.lower().endswith(EXTENSIONS)
        ]
    return found
