"""Tasks. Importing this package registers them."""

from engine.tasks import classification

__all__ = ["classification"]
