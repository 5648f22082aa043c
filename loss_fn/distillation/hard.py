"""The teacher's decisions as labels (DeiT, arXiv 2012.12877, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from config.errors import UserError
from config.options import Options
from loss_fn.kinds import DISTILLATION_LOSSES
from loss_fn.output import LossOutput


class HardDistillationOptions(Options):
    """Options of the hard distillation."""

    topk: int = Field(
        default=1, ge=1, description="how many of the teacher's likeliest classes are the target"
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="share of each target spread over all classes, in training only",
    )


@DISTILLATION_LOSSES.register("hard_distillation", options=HardDistillationOptions)
class HardDistillation(nn.Module):
    """Cross entropy with the teacher's likeliest class, or with its k likeliest ones.

    With k > 1 every class is a question of its own: the binary cross entropy against the k-hot
    target, smoothed as (1 - s) target + s / C, summed over classes and averaged over images.
    """

    def __init__(self, options: HardDistillationOptions, *, teacher: Callable[[Tensor], Tensor]):
        super().__init__()
        self.options, self.teacher = options, teacher

    def forward(self, images: Tensor, outputs: Tensor, targets: Any) -> LossOutput:
        """`images` [B, 3, H, W] as the student gets them, `outputs` its logits [B, C].

        Raises UserError when there are fewer than `topk` classes.
        """
        logits = outputs if outputs.dtype == torch.float64 else outputs.float()
        k, classes = self.options.topk, logits.shape[1]
        if k > classes:
            raise UserError(
                f"loss.distillation.hard_distillation.topk: {k} is more than the {classes} classes"
            )
        smoothing = self.options.label_smoothing if self.training else 0.0
        chosen = self.teacher(images).topk(k, dim=1).indices
        if k == 1:
            return LossOutput(
                functional.cross_entropy(logits, chosen[:, 0], label_smoothing=smoothing)
            )
        hot = torch.zeros_like(logits).scatter_(1, chosen, 1.0)
        hot = hot * (1 - smoothing) + smoothing / classes
        mean = functional.binary_cross_entropy_with_logits(logits, hot)
        return LossOutput(mean * classes)
