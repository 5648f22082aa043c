"""Transforms, and the pipelines of each task. Importing this package registers the transforms."""

from data.transforms import geometric, photometric, ssd_crop

__all__ = ["geometric", "photometric", "ssd_crop"]
