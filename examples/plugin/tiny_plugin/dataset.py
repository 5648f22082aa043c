"""A data set: images with a class each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from config.errors import UserError
from config.options import Options
from data.images import EXTENSIONS, read_image
from data.kinds import CLASSIFICATION_DATASETS


class TinyFoldersOptions(Options):
    """`dataset.tiny_folders`."""

    per_class: int = Field(100, ge=1, description="images of each class that are used")


@CLASSIFICATION_DATASETS.register("tiny_folders", options=TinyFoldersOptions)
class TinyFolders:
    """The first images of each class folder: to try something out quickly."""

    def __init__(self, options: TinyFoldersOptions, *, root: str | None, split: str):
        if root is None or not Path(root).is_dir():
            raise UserError(
                f"dataset.root_{split}: no folder {root}; one with class folders is needed"
            )
        folders = sorted(folder for folder in Path(root).iterdir() if folder.is_dir())
        self.classes = tuple(folder.name for folder in folders)
        self.samples = [
            (path, label)
            for label, folder in enumerate(folders)
            for path in _images(folder)[: options.per_class]
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image, uint8 [H, W, 3] RGB, and its class."""
        path, label = self.samples[index]
        return read_image(path), label

    def describe(self, index: int) -> str:
        """What messages call the sample."""
        return str(self.samples[index][0])


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
