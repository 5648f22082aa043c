"""Tasks. Importing this package registers them."""

from engine.tasks import classification, detection

__all__ = ["classification", "detection"]
