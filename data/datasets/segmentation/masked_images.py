"""Images with a mask file each: what all data sets of segmentation are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from data.datasets.segmentation.labels import Labels, Mask
from data.datasets.segmentation.masks import one_channel, read_mask
from data.datasets.segmentation.segments import Segments
from data.images import ImageError, read_image


class Pair(NamedTuple):
    """A sample: its name (unique, without the ending), its image and its mask."""

    name: str
    image: str
    mask: str


@dataclass(frozen=True)
class SegmentationReport:
    """What is to be said of a split, e.g. where its samples were found."""

    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line each."""
        return list(self.notes)


class MaskedImages:
    """Images and the labels of their pixels.

    `labels`; `names` the samples' names, which may hold `/` and have no ending; `report` how the
    samples were found.
    """

    def __init__(self, pairs: Sequence[Pair], labels: Labels, notes: Iterable[str]):
        self.labels, self.report = labels, SegmentationReport(tuple(notes))
        # arrays, not lists: loader processes share their memory
        self.names, self._images, self._masks = (
            np.array(column) for column in zip(*pairs, strict=True)
        )

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], Segments]:
        """The image, uint8 [H, W, 3] RGB, and its labels.

        ImageError if a file cannot be read or their sizes differ; UserError for a value in the
        mask that nobody has declared.
        """
        image, path = read_image(self.describe(index)), str(self._masks[index])
        mask = read_mask(path)
        if image.shape[:2] != mask.shape[:2]:
            turned = image.shape[:2] == mask.shape[1::-1]
            hint = " (turned: its orientation tag is not applied)" if turned else ""
            raise ImageError(
                f"{path}: the mask has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), "
                f"but its image {self.describe(index)} has {image.shape[0]} x {image.shape[1]}{hint}"
            )
        return image, Segments(self.values(mask, path), self.labels)

    def values(self, mask: Mask, path: str) -> Mask:
        """The raw values, uint8 [H, W], of a mask as it was read."""
        raw = one_channel(mask, path)
        self.labels.check(raw, path)
        return raw

    def describe(self, index: int) -> str:
        """The path of the image."""
        return str(self._images[index])


def root_folder(root: str | None, key: str, expected: str) -> Path:
    """The folder of a data set; UserError unless there is one. `expected`: what stands in it."""
    if not root:
        raise UserError(f"{key}: no folder is given; set {key}=FOLDER, one with {expected}")
    if not Path(root).is_dir():
        raise UserError(
            f"{key}: no folder {Path(root).absolute()}; one with {expected} is expected"
        )
    return Path(root)


def check_files(pairs: Sequence[Pair], key: str) -> None:
    """UserError if a file is missing; one listing of a folder is cheaper than a look at each."""
    for kind in ("image", "mask"):
        paths = [getattr(pair, kind) for pair in pairs]
        present = {folder: _listing(folder) for folder in set(map(os.path.dirname, paths))}
        missing = [p for p in paths if os.path.basename(p) not in present[os.path.dirname(p)]]
        if missing:
            raise UserError(
                f"{key}: {len(missing)} of {len(paths)} {kind}s are missing, first {missing[0]}; "
                "add them, or take them from the list"
            )


def _listing(folder: str) -> set[str]:
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()
