"""Metrics. Importing this package registers them."""

from engine.metrics import coco, mean, mean_iou, top_k

__all__ = ["coco", "mean", "mean_iou", "top_k"]
