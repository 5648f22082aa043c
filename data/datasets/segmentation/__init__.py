"""Data sets of semantic segmentation."""
