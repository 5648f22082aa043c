"""Transforms, and the pipelines of each task. Importing this package registers the transforms."""

from data.transforms import geometric

__all__ = ["geometric"]
