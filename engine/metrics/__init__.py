"""Metrics. Importing this package registers them."""

from engine.metrics import mean, top_k

__all__ = ["mean", "top_k"]
