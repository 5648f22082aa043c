"""A weighted sum of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from loss_fn.output import LossOutput


class CompositeLoss(nn.Module):
    """total = the sum of weight * loss; `parts` holds each loss by name, without its weight.

    `terms`: (name, weight, loss) each; names differ. The mean over many micro-batches goes over
    what the first loss goes over that counts other things than images.
    """

    def __init__(self, terms: Sequence[tuple[str, float, nn.Module]]):
        super().__init__()
        self.names = tuple(name for name, _, _ in terms)
        self.weights = tuple(weight for _, weight, _ in terms)
        self.losses = nn.ModuleList(loss for _, _, loss in terms)

    def forward(self, images: Tensor, outputs: Any, targets: Any) -> LossOutput:
        """What each loss takes, handed to all of them."""
        found: list[LossOutput] = [loss(images, outputs, targets) for loss in self.losses]
        total = sum(w * each.total for w, each in zip(self.weights, found, strict=True))
        parts = {name: each.total.detach() for name, each in zip(self.names, found, strict=True)}
        assert isinstance(total, Tensor)
        units = next((each.units for each in found if each.units is not None), None)
        return LossOutput(total, parts, units)
