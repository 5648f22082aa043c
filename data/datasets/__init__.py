"""Data sets. Importing this package registers them."""

from data.datasets.classification import imagenet
from data.datasets.detection import coco

__all__ = ["coco", "imagenet"]
