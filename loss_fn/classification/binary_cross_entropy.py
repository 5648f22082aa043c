"""Binary cross entropy: every class is a question of its own (several labels per image, mixup)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from config.options import Options
from loss_fn.kinds import CLASSIFICATION_LOSSES
from loss_fn.output import LossOutput


class BinaryCrossEntropyOptions(Options):
    """Options of the binary cross entropy."""

    reduction: Literal["mean", "sum", "batch_mean"] = Field(
        default="mean",
        description="over images and classes: mean; sum; or batch_mean, the sum per image",
    )


@CLASSIFICATION_LOSSES.register("binary_cross_entropy", options=BinaryCrossEntropyOptions)
class BinaryCrossEntropy(nn.Module):
    """Binary cross entropy of logits, one per class; labels are read as one-hot.

    With `sum` the gradient grows with the micro-batch, as officially; the other two are means.
    Images with a negative label do not count; a micro-batch of nothing else gives 0.
    """

    def __init__(self, options: BinaryCrossEntropyOptions):
        super().__init__()
        self.options = options

    def forward(self, images: Tensor, outputs: Tensor, targets: Tensor) -> LossOutput:
        """`outputs` logits [B, C]; `targets` labels [B], or probabilities in [0, 1] [B, C]."""
        logits = outputs if outputs.dtype == torch.float64 else outputs.float()
        classes = logits.shape[1]
        counts = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        if not targets.is_floating_point():
            counts = targets >= 0
            targets = targets[:, None] == torch.arange(classes, device=targets.device)
        total = functional.binary_cross_entropy_with_logits(
            torch.where(counts[:, None], logits, 0),  # nothing of the others, not even a nan
            targets.to(logits.dtype),
            weight=counts[:, None].to(logits.dtype),
            reduction="sum",
        )
        units = counts.sum()
        if self.options.reduction == "mean":
            units = units * classes
        mean = total / units.clamp_min(1)
        return LossOutput(total if self.options.reduction == "sum" else mean, units=units)
