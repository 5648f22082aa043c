"""The options that all data sets share, and what a data set is."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from config.options import OPERATIONAL, Section

# Each task collates in one way; these are the names that official recipes give it.
Collation = Literal[
    "pytorch_default_collate_fn",
    "default_collate_fn",
    "image_classification_data_collate_fn",
    "unlabeled_image_data_collate_fn",
    "coco_ssd_collate_fn",
]


class DatasetSection(Section):
    """`dataset`: where the data are, and how they are loaded."""

    root_train: str | None = Field(
        None, description="folder of the training split", json_schema_extra=OPERATIONAL
    )
    root_val: str | None = Field(
        None, description="folder of the validation split", json_schema_extra=OPERATIONAL
    )
    root_test: str | None = Field(
        None, description="folder of the test split, else root_val", json_schema_extra=OPERATIONAL
    )
    name: str = Field("imagenet", description="which kind of data set")
    category: str | None = Field(None, description="the task: classification, detection, ...")
    disable_val: bool = Field(False, description="train without validation")
    train_batch_size0: int = Field(128, ge=1, description="images per micro-batch and process")
    val_batch_size0: int = Field(1, ge=1, description="images per batch of validation")
    eval_batch_size0: int = Field(
        1,
        ge=1,
        description="images per batch of stand-alone evaluation",
        json_schema_extra=OPERATIONAL,
    )
    workers: int = Field(
        -1,
        ge=-1,
        description="loader processes per rank; -1: the CPUs, shared",
        json_schema_extra=OPERATIONAL,
    )
    persistent_workers: bool = Field(
        False, description="keep loader processes between epochs", json_schema_extra=OPERATIONAL
    )
    pin_memory: bool = Field(
        False, description="page-locked batches, when a GPU is used", json_schema_extra=OPERATIONAL
    )
    prefetch_factor: int = Field(
        2,
        ge=1,
        description="batches that a loader process prepares ahead",
        json_schema_extra=OPERATIONAL,
    )
    max_bad_images: float = Field(
        0.01, ge=0, le=1, description="training stops above this share of unreadable images"
    )
    download: bool = Field(
        False,
        description="fetch a public data set into its folder, if it is not there",
        json_schema_extra=OPERATIONAL,
    )
    percentage_of_samples: float = Field(
        100.0, gt=0, le=100, description="training uses this share of the images of each class, %"
    )
    num_samples_per_category: int = Field(
        -1, ge=-1, description="training uses so many images of each class; -1: all"
    )
    sample_selection_random_seed: int = Field(
        0, ge=0, description="seed of the choice of those images, the same for the whole run"
    )
    collate_fn_name_train: Collation = Field(
        "pytorch_default_collate_fn", description="official name of the collation of training"
    )
    collate_fn_name_val: Collation = Field(
        "pytorch_default_collate_fn", description="official name of the collation of validation"
    )
    collate_fn_name_test: Collation = Field(
        "pytorch_default_collate_fn", description="official name of the collation of evaluation"
    )

    @model_validator(mode="after")
    def _one_share(self) -> DatasetSection:
        if self.num_samples_per_category == 0:
            raise ValueError(
                "num_samples_per_category: 0 images cannot be trained on; -1 means all"
            )
        if self.num_samples_per_category > 0 and self.percentage_of_samples < 100:
            raise ValueError(
                "num_samples_per_category: cannot be given together with percentage_of_samples; "
                "leave one out"
            )
        return self


class ImageDataset(Protocol):
    """Images with targets; stateless, picklable, and random nowhere."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], Any]:
        """The image, uint8 [H, W, 3] RGB, and its target. ImageError if it cannot be read."""
        ...

    def describe(self, index: int) -> str:
        """What a message calls the sample: its path."""
        ...
