"""Samplers, and the plan of an epoch. Importing this package registers the samplers."""

from data.sampler import batch, chain, multi_scale, variable_batch

__all__ = ["batch", "chain", "multi_scale", "variable_batch"]
