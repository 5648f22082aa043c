"""Tasks. Importing this package registers them."""

from engine.tasks import classification, detection, segmentation

__all__ = ["classification", "detection", "segmentation"]
