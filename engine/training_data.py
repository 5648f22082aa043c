"""Which images of its data a training uses, and how often: options that need a class per image."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from data.datasets.classification.subset import Subset, chosen, is_asked
from data.datasets.section import DatasetSection, ImageDataset
from data.kinds import CLASSIFICATION_DATASETS
from data.sampler.chain import NAME as CHAIN
from engine.reading import task_name
from engine.recipe import Recipe


def check_use_of_data(recipe: Recipe, kind: str) -> None:
    """UserError for options of the data that a task of this kind cannot follow."""
    data, sampler, task = recipe.dataset, recipe.sampler, task_name(recipe)
    for key, asked, what in (
        ("dataset.percentage_of_samples", data.percentage_of_samples < 100, "chosen by class"),
        ("dataset.num_samples_per_category", data.num_samples_per_category > 0, "chosen by class"),
        ("sampler.class_balanced", sampler.class_balanced, "balanced"),
        ("dataset.download", data.download, "downloaded"),
    ):
        if asked and kind != "classification":
            raise UserError(
                f"{key}: only data of classification can be {what}, and the task is {task}; take it out"
            )
    for number, link in enumerate(sampler.chain_sampler if sampler.name == CHAIN else ()):
        if link.task_name not in ("", task):
            raise UserError(
                f"sampler.chain_sampler[{number}].task_name: {link.task_name}, but a run has one task, "
                f"and this is {task}; leave out the others"
            )


def download(section: DatasetSection, root: str | None, split: str) -> None:
    """Fetch the data set into its folder. UserError where that is not possible."""
    key = "dataset.download"
    fetch = getattr(CLASSIFICATION_DATASETS[section.name].registered, "download", None)
    if fetch is None:
        able = [
            name
            for name in CLASSIFICATION_DATASETS.names()
            if hasattr(CLASSIFICATION_DATASETS[name].registered, "download")
        ]
        raise UserError(
            f"{key}: {section.name} cannot be downloaded ({', '.join(able)} can); take it out"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # they would write the same files
        raise UserError(
            f"{key}: one process has to fetch the data before several train on them; run "
            f"cvnets check RECIPE {key}=true, then this without it"
        )
    fetch(root, split)


def part_of(dataset: Any, section: DatasetSection) -> Any:
    """The images of `dataset` that training uses, by `dataset.percentage_of_samples` and others."""
    if not is_asked(section):
        return dataset
    return Subset(
        dataset, chosen(_labels(dataset, "dataset.percentage_of_samples", section), section)
    )


def labels_to_balance(dataset: ImageDataset, recipe: Recipe) -> npt.NDArray[np.int64] | None:
    """The class of each image, int64 [N], if `sampler.class_balanced` asks for it."""
    if not recipe.sampler.class_balanced:
        return None
    return _labels(dataset, "sampler.class_balanced", recipe.dataset)


def _labels(dataset: object, key: str, section: DatasetSection) -> npt.NDArray[np.int64]:
    labels = getattr(dataset, "labels", None)
    if labels is None:
        raise UserError(
            f"{key}: the data set {section.name} has no array `labels` with the class of each image; "
            "add it, or take this out"
        )
    return np.asarray(labels, dtype=np.int64)
