"""Metrics. Importing this package registers them."""

from engine.metrics import coco, mean, top_k

__all__ = ["coco", "mean", "top_k"]
