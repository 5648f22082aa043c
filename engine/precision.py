"""Autocast, loss scaling, clipping, and steps that are skipped without asking the host."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from engine.settings import CommonOptions
from optim import step_unless

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Precision:
    """How a step computes: the type of autocast, the scale of the loss, the clip of the gradient.

    `reason` is a line to print when the recipe's wish cannot be met on this device.
    """

    def __init__(self, options: CommonOptions, device: torch.device):
        self.device = device
        self.clip = options.grad_clip
        dtype = DTYPES[options.mixed_precision_dtype] if options.mixed_precision else None
        self.reason = ""
        if dtype is torch.float16 and device.type != "cuda":
            self.reason = (
                f"mixed_precision float16 needs a GPU; on {device.type} training runs in "
                f"{options.parameter_dtype} (bfloat16 is possible: common.mixed_precision_dtype)"
            )
            dtype = None
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of forward passes."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a loss, scaled against underflow in float16."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(
        self, optimizer: Optimizer, parameters: Iterable[nn.Parameter], loss: Tensor
    ) -> Tensor:
        """Clip and step; float [2] on the device: gradient norm, 1 if the step was skipped.

        A step whose gradient is not finite changes neither weights nor optimizer state; the
        gradient is the same on all ranks, and so is the decision. In float16 an infinite gradient
        may only mean that the scale is lowered: there the step counts as skipped if `loss`, this
        rank's, is not finite.
        """
        self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        if self.clip is not None:
            clip_grads_with_norm_(_having_grad(optimizer), self.clip, norm)
        finite = torch.isfinite(loss if self.scaler.is_enabled() else norm)
        if self.scaler.is_enabled():
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            step_unless(optimizer, ~finite)
        dtype = torch.promote_types(loss.dtype, torch.float32)
        return torch.stack([norm.to(dtype), (~finite).to(dtype)])


def _having_grad(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


class BufferGuard:
    """Takes running statistics back when a step turns out not to be finite.

    Without it one bad batch would leave NaN in batch norm although the step was skipped.
    """

    def __init__(self, model: nn.Module):
        self._live = [b for b in model.buffers() if b.is_floating_point()]
        self._saved = [b.clone() for b in self._live]

    @torch.no_grad()
    def save(self) -> None:
        """Remember the statistics as they are before the step."""
        if self._live:
            torch._foreach_copy_(self._saved, self._live)

    @torch.no_grad()
    def restore_if(self, bad: Tensor) -> None:
        """Put the remembered statistics back where `bad` (a scalar on the device) is true."""
        for live, saved in zip(self._live, self._saved, strict=True):
            torch.where(bad, saved, live, out=live)
