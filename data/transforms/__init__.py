"""Transforms, and the pipelines of each task. Importing this package registers the transforms."""

from data.transforms import (
    geometric,
    photometric,
    policies,
    random_crop,
    random_order,
    short_side,
    ssd_crop,
)

__all__ = [
    "geometric",
    "photometric",
    "policies",
    "random_crop",
    "random_order",
    "short_side",
    "ssd_crop",
]
