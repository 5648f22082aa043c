"""Observers. Importing this package registers them."""

from engine.observers import console, jsonl, pictures, tensorboard

__all__ = ["console", "jsonl", "pictures", "tensorboard"]
