"""Losses of semantic segmentation; importing this registers them."""

from loss_fn.segmentation.cross_entropy import (
    SegmentationCrossEntropy,
    SegmentationCrossEntropyOptions,
)

__all__ = ["SegmentationCrossEntropy", "SegmentationCrossEntropyOptions"]
