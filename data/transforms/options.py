"""Options of transforms whose default depends on the task."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from config.options import Options
from data.kinds import TRANSFORMS, TransformOptions


class TaskTransformOptions(TransformOptions):
    """Of a transform that training contains in some tasks unless the recipe switches it off.

    Official recipes do not name all of these transforms and use them all the same. `null` stands
    for "not given", so that a recipe written out with all defaults means the same.
    """

    usual_in: ClassVar[tuple[str, ...]] = ()

    enable: bool | None = Field(  # type: ignore[assignment]
        None, description="use it in training; null (not given): no"
    )


class DetectionTransformOptions(TaskTransformOptions):
    """Of a transform that belongs to the training of a detector."""

    usual_in: ClassVar[tuple[str, ...]] = ("detection",)

    enable: bool | None = Field(
        None, description="use it in training; null (not given): in detection yes, elsewhere no"
    )


class SegmentationTransformOptions(TaskTransformOptions):
    """Of a transform that belongs to the training of semantic segmentation."""

    usual_in: ClassVar[tuple[str, ...]] = ("segmentation",)

    enable: bool | None = Field(
        None, description="use it in training; null (not given): in segmentation yes, elsewhere no"
    )


class DenseTransformOptions(TaskTransformOptions):
    """Of a transform that belongs to both."""

    usual_in: ClassVar[tuple[str, ...]] = ("detection", "segmentation")

    enable: bool | None = Field(
        None,
        description="use it in training; null (not given): in detection and segmentation yes, in "
        "classification no",
    )


def wanted(section: Options, name: str, task: str) -> bool:
    """Whether training of this task contains the transform `name`, given `image_augmentation`."""
    options = TRANSFORMS.options_of(section, name=name)
    assert isinstance(options, TransformOptions)
    if options.enable is None and isinstance(options, TaskTransformOptions):
        return task in options.usual_in
    return bool(options.enable)
