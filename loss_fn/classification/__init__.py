"""Losses of image classification."""

from loss_fn.classification.cross_entropy import CrossEntropy, CrossEntropyOptions

__all__ = ["CrossEntropy", "CrossEntropyOptions"]
