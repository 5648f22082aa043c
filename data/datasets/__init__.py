"""Data sets. Importing this package registers them."""

from data.datasets.classification import imagenet
from data.datasets.detection import coco
from data.datasets.segmentation import ade20k, image_mask, pascal

__all__ = ["ade20k", "coco", "image_mask", "imagenet", "pascal"]
