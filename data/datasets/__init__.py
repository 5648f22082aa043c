"""Data sets. Importing this package registers them."""

from data.datasets.classification import imagenet

__all__ = ["imagenet"]
