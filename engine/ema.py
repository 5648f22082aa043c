"""The exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class ModelEma:
    """A copy of the model in evaluation mode, with e = (1 - m) e + m w after each step.

    Covers parameters and buffers; integer entries are copied. `momentum` is m. With `warmup`, m is
    at least 9 / (10 + t) in step t: the average starts as one of few steps, and forgets the first
    weights soon (as `num_updates` of TensorFlow's ExponentialMovingAverage does).
    """

    def __init__(self, model: nn.Module, momentum: float, *, warmup: bool = False):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.momentum, self.warmup = momentum, warmup
        averaged, exact = _split(self.model)
        live, live_exact = _split(model)
        self._averaged, self._live = averaged, live
        self._exact, self._live_exact = exact, live_exact

    def momentum_at(self, iteration: int) -> float:
        """m of optimizer step `iteration`, counted from 0 over the whole run."""
        return max(self.momentum, 9 / (10 + iteration)) if self.warmup else self.momentum

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Follow the live model by one step."""
        torch._foreach_lerp_(self._averaged, self._live, self.momentum_at(iteration))
        if self._exact:
            torch._foreach_copy_(self._exact, self._live_exact)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Put the average in the place of the live weights."""
        torch._foreach_copy_(self._live, self._averaged)
        if self._exact:
            torch._foreach_copy_(self._live_exact, self._exact)


def _split(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Floating-point entries, and the rest, of the state; they share memory with the model."""
    entries = [entry.detach() for entry in model.state_dict().values()]
    return (
        [entry for entry in entries if entry.is_floating_point()],
        [entry for entry in entries if not entry.is_floating_point()],
    )
