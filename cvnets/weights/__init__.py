"""Weights in files: reading them, fitting them to a network, and saying what was fitted."""
