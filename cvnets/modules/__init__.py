"""Modules: blocks that several models are made of."""
