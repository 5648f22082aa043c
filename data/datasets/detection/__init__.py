"""Data sets of detection."""
