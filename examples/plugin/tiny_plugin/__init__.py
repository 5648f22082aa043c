"""Components for cvnets. Importing this package registers them."""

from tiny_plugin import (
    backbone,
    dataset,
    loss,
    metric,
    observer,
    optimizer,
    sampler,
    schedule,
    transform,
)

__all__ = [
    "backbone",
    "dataset",
    "loss",
    "metric",
    "observer",
    "optimizer",
    "sampler",
    "schedule",
    "transform",
]
