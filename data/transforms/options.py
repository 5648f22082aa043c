"""Options of transforms whose default depends on the task."""

from __future__ import annotations

from pydantic import Field

from data.kinds import TransformOptions


class DetectionTransformOptions(TransformOptions):
    """Of a transform that training a detector contains unless the recipe switches it off.

    Official recipes of detection do not name these transforms and use them all the same. `null`
    stands for "not given", so that a recipe written out with all defaults means the same.
    """

    enable: bool | None = Field(  # type: ignore[assignment]
        None, description="use it in training; null (not given): in detection yes, elsewhere no"
    )
