"""The `loss` section of a recipe and its sub-sections, without the options of single losses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from config.options import Options, Section

# Losses that are not those of a task; the first reads a teacher, the second several losses.
DISTILLATION, COMPOSITE = "distillation", "composite_loss"
RANGE_AUGMENT = "neural_augmentation"  # known, but not built


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


class DistillationLossSection(Section):
    """Loss that compares a student with a teacher (section `teacher`)."""

    name: str = Field(default="soft_kl_loss", description="distillation loss, e.g. soft_kl_loss")


class LossesSection(Options):
    """One sub-section per category of losses."""

    classification: ClassificationLossSection = Field(
        default_factory=ClassificationLossSection, description="loss of image classification"
    )
    detection: DetectionLossSection = Field(
        default_factory=DetectionLossSection, description="loss of object detection"
    )
    segmentation: SegmentationLossSection = Field(
        default_factory=SegmentationLossSection, description="loss of semantic segmentation"
    )
    distillation: DistillationLossSection = Field(
        default_factory=DistillationLossSection, description="loss that imitates a teacher"
    )


class TermSection(LossesSection):
    """One loss of several: its category, its weight, and its options in that sub-section."""

    loss_category: Literal[
        "classification", "detection", "segmentation", "distillation", "neural_augmentation"
    ] = Field(default="classification", description="kind of loss")
    neural_augmentation: dict[str, Any] = Field(
        default={}, description="of RangeAugment, which is not built: such a loss is left out"
    )
    loss_weight: float = Field(
        default=1.0, ge=0.0, allow_inf_nan=False, description="factor of this loss in the sum"
    )


class LossSection(LossesSection):
    """Loss that training minimises: its category, and one sub-section per category."""

    category: (
        Literal["classification", "detection", "segmentation", "distillation", "composite_loss"]
        | None
    ) = Field(default=None, description="kind of loss; null means the one of the task")
    composite_loss: tuple[TermSection, ...] = Field(
        default=(), description="the losses that category composite_loss adds up, a list"
    )

    @property
    def needs_teacher(self) -> bool:
        """Whether any part of the loss reads a teacher."""
        terms = self.composite_loss if self.category == COMPOSITE else ()
        return DISTILLATION in {self.category, *(term.loss_category for term in terms)}
