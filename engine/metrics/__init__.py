"""Metrics. Importing this package registers them."""

from engine.metrics import (
    average_precision,
    coco,
    confusion_matrix,
    mean,
    mean_iou,
    probabilities,
    top_k,
)

__all__ = [
    "average_precision",
    "coco",
    "confusion_matrix",
    "mean",
    "mean_iou",
    "probabilities",
    "top_k",
]
