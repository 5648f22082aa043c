"""Data sets. Importing this package registers them."""

from data.datasets.classification import (
    downloaded,
    image_folder,
    imagenet,
    imagenet_variants,
)
from data.datasets.detection import coco
from data.datasets.segmentation import ade20k, image_mask, pascal

__all__ = [
    "ade20k",
    "coco",
    "downloaded",
    "image_folder",
    "image_mask",
    "imagenet",
    "imagenet_variants",
    "pascal",
]
