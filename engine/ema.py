"""The exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class ModelEma:
    """A copy of the model in evaluation mode, with e = (1 - m) e + m w after each step.

    Covers parameters and buffers; integer entries are copied. `momentum` is m.
    """

    def __init__(self, model: nn.Module, momentum: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.momentum = momentum
        averaged, exact = _split(self.model)
        live, live_exact = _split(model)
        self._averaged, self._live = averaged, live
        self._exact, self._live_exact = exact, live_exact

    @torch.no_grad()
    def update(self) -> None:
        """Follow the live model by one step."""
        torch._foreach_lerp_(self._averaged, self._live, self.momentum)
        if self._exact:
            torch._foreach_copy_(self._exact, self._live_exact)


def _split(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Floating-point entries, and the rest, of the state; they share memory with the model."""
    entries = [entry.detach() for entry in model.state_dict().values()]
    return (
        [entry for entry in entries if entry.is_floating_point()],
        [entry for entry in entries if not entry.is_floating_point()],
    )
