"""Losses of object detection."""

from loss_fn.detection.ssd_multibox import SSDMultiboxLoss, SSDMultiboxOptions

__all__ = ["SSDMultiboxLoss", "SSDMultiboxOptions"]
