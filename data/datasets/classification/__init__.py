"""Data sets of classification."""
