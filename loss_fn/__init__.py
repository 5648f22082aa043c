"""Losses: `loss(images, outputs, targets) -> LossOutput`, the mean over a micro-batch."""

from loss_fn.classification import CrossEntropy, CrossEntropyOptions
from loss_fn.kinds import CLASSIFICATION_LOSSES
from loss_fn.output import LossOutput
from loss_fn.section import ClassificationLossSection, LossSection

__all__ = [
    "CLASSIFICATION_LOSSES",
    "ClassificationLossSection",
    "CrossEntropy",
    "CrossEntropyOptions",
    "LossOutput",
    "LossSection",
]
