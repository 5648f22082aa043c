"""The `loss` section of a recipe and its sub-sections, without the options of single losses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.options import Options, Section


class ClassificationLossSection(Section):
    """Loss of image classification."""

    name: str = Field(
        default="cross_entropy", description="classification loss, e.g. cross_entropy"
    )


class DetectionLossSection(Section):
    """Loss of object detection."""

    name: str = Field(
        default="ssd_multibox_loss", description="detection loss, e.g. ssd_multibox_loss"
    )


class SegmentationLossSection(Section):
    """Loss of semantic segmentation."""

    name: str = Field(default="cross_entropy", description="segmentation loss, e.g. cross_entropy")


class LossSection(Options):
    """Loss that training minimises: its category, and one sub-section per category."""

    category: Literal["classification", "detection", "segmentation"] | None = Field(
        default=None, description="kind of loss; null means the one of the task"
    )
    classification: ClassificationLossSection = Field(
        default_factory=ClassificationLossSection, description="loss of image classification"
    )
    detection: DetectionLossSection = Field(
        default_factory=DetectionLossSection, description="loss of object detection"
    )
    segmentation: SegmentationLossSection = Field(
        default_factory=SegmentationLossSection, description="loss of semantic segmentation"
    )
