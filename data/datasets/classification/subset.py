"""Part of a data set: a share, or a number, of the images of each class."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from data.datasets.section import DatasetSection, ImageDataset
from data.sampler.seeds import permutation


class LabelledImages(ImageDataset, Protocol):
    """Images with a class each: `classes` their names, `labels` int64 [N] the class of each image."""

    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]


class Subset:
    """Some images of a data set. `indices` int64 [N], ascending, says which."""

    def __init__(self, dataset: LabelledImages, indices: npt.NDArray[np.int64]):
        self.dataset, self.indices = dataset, indices
        self.classes, self.labels = dataset.classes, dataset.labels[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image, uint8 [H, W, 3] RGB, and its class index."""
        return self.dataset.load(int(self.indices[index]))

    def describe(self, index: int) -> str:
        """The path of the image."""
        return self.dataset.describe(int(self.indices[index]))


def is_asked(section: DatasetSection) -> bool:
    """Whether a recipe wants to train on part of its data."""
    return section.percentage_of_samples < 100 or section.num_samples_per_category > 0


def chosen(labels: npt.NDArray[np.int64], section: DatasetSection) -> npt.NDArray[np.int64]:
    """The indices, int64 ascending, of the images that training uses.

    Of each class: `num_samples_per_category`, or all if it has fewer; else the nearest whole number
    to `percentage_of_samples`, one at least. They are drawn without replacement, and depend on the
    seed, the class and its number of images alone. A smaller share is part of a larger one.
    """
    by_class = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[by_class], return_index=True)
    parts = []
    for label, members in zip(classes, np.split(by_class, starts[1:]), strict=True):
        count = section.num_samples_per_category
        if count < 0:
            count = max(1, round(len(members) * section.percentage_of_samples / 100))
        order = permutation(len(members), section.sample_selection_random_seed, int(label))
        parts.append(members[order[:count]])
    return np.sort(np.concatenate(parts))
