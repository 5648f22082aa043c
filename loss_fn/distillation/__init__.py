"""Losses that make a student imitate a teacher; the labels of the data are not read."""

from loss_fn.distillation.hard import HardDistillation, HardDistillationOptions
from loss_fn.distillation.soft_kl import SoftKL, SoftKLOptions

__all__ = ["HardDistillation", "HardDistillationOptions", "SoftKL", "SoftKLOptions"]
