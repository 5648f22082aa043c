"""Models: whole networks."""
