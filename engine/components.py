"""Importing this file registers every component of this floor."""

from engine import metrics, observers, tasks

__all__ = ["metrics", "observers", "tasks"]
