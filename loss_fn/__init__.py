"""Losses: `loss(images, outputs, targets) -> LossOutput`, the mean over a micro-batch."""

from loss_fn.classification import CrossEntropy, CrossEntropyOptions
from loss_fn.detection import SSDMultiboxLoss, SSDMultiboxOptions
from loss_fn.kinds import CLASSIFICATION_LOSSES, DETECTION_LOSSES, SEGMENTATION_LOSSES
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
    "SEGMENTATION_LOSSES",
    "ClassificationLossSection",
    "CrossEntropy",
    "CrossEntropyOptions",
    "DetectionLossSection",
    "LossOutput",
    "LossSection",
    "SSDMultiboxLoss",
    "SSDMultiboxOptions",
    "SegmentationCrossEntropy",
    "SegmentationCrossEntropyOptions",
    "SegmentationLossSection",
]
