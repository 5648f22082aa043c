"""Losses: `loss(images, outputs, targets) -> LossOutput`, the mean over a micro-batch."""

from loss_fn.classification import (
    BinaryCrossEntropy,
    BinaryCrossEntropyOptions,
    CrossEntropy,
    CrossEntropyOptions,
)
from loss_fn.composite import CompositeLoss
from loss_fn.detection import SSDMultiboxLoss, SSDMultiboxOptions
from loss_fn.distillation import (
    HardDistillation,
    HardDistillationOptions,
    SoftKL,
    SoftKLOptions,
)
from loss_fn.kinds import (
    CLASSIFICATION_LOSSES,
    DETECTION_LOSSES,
    DISTILLATION_LOSSES,
    SEGMENTATION_LOSSES,
)
from loss_fn.output import LossOutput
from loss_fn.section import (
    ClassificationLossSection,
    DetectionLossSection,
    LossSection,
    SegmentationLossSection,
)
from loss_fn.segmentation import SegmentationCrossEntropy, SegmentationCrossEntropyOptions

__all__ = [
    "CLASSIFICATION_LOSSES",
    "DETECTION_LOSSES",
    "DISTILLATION_LOSSES",
    "SEGMENTATION_LOSSES",
    "BinaryCrossEntropy",
    "BinaryCrossEntropyOptions",
    "ClassificationLossSection",
    "CompositeLoss",
    "CrossEntropy",
    "CrossEntropyOptions",
    "DetectionLossSection",
    "HardDistillation",
    "HardDistillationOptions",
    "LossOutput",
    "LossSection",
    "SSDMultiboxLoss",
    "SSDMultiboxOptions",
    "SegmentationCrossEntropy",
    "SegmentationCrossEntropyOptions",
    "SegmentationLossSection",
    "SoftKL",
    "SoftKLOptions",
]
