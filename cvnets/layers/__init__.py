"""Layers: the smallest parts, free of recipes and of each other's business."""
