"""Losses of image classification."""

from loss_fn.classification.binary_cross_entropy import (
    BinaryCrossEntropy,
    BinaryCrossEntropyOptions,
)
from loss_fn.classification.cross_entropy import CrossEntropy, CrossEntropyOptions

__all__ = [
    "BinaryCrossEntropy",
    "BinaryCrossEntropyOptions",
    "CrossEntropy",
    "CrossEntropyOptions",
]
