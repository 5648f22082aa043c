"""The student's softened distribution should be the teacher's (Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from config.options import Options
from loss_fn.kinds import DISTILLATION_LOSSES
from loss_fn.output import LossOutput


class SoftKLOptions(Options):
    """Options of the soft distillation."""

    temperature: float = Field(
        default=1.0,
        gt=0.0,
        allow_inf_nan=False,
        description="logits are divided by it before the softmax; above 1 softens them",
    )


@DISTILLATION_LOSSES.register("soft_kl_loss", options=SoftKLOptions)
class SoftKL(nn.Module):
    """T^2 KL(teacher || student) of distributions softened by T, averaged over the images.

    The factor keeps the size of the gradient when T changes (section 2 of the paper).
    """

    def __init__(self, options: SoftKLOptions, *, teacher: Callable[[Tensor], Tensor]):
        super().__init__()
        self.options, self.teacher = options, teacher

    def forward(self, images: Tensor, outputs: Tensor, targets: Any) -> LossOutput:
        """`images` [B, 3, H, W] as the student gets them, `outputs` its logits [B, C]."""
        dtype = torch.float64 if outputs.dtype == torch.float64 else torch.float32
        t = self.options.temperature
        theirs = functional.log_softmax(self.teacher(images).to(dtype) / t, dim=1)
        ours = functional.log_softmax(outputs.to(dtype) / t, dim=1)
        return LossOutput(
            t * t * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        )
