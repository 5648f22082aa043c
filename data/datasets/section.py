"""The options that all data sets share, and what a data set is."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from config.options import OPERATIONAL, Section


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


class ImageDataset(Protocol):
    """Images with targets; stateless, picklable, and random nowhere."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], Any]:
        """The image, uint8 [H, W, 3] RGB, and its target. ImageError if it cannot be read."""
        ...

    def describe(self, index: int) -> str:
        """What a message calls the sample: its path."""
        ...
