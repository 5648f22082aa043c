"""What the trainer does with an optimizer: set its rate, and step unless a gradient is not finite."""

from __future__ import annotations

from typing import Any

from torch import Tensor, float32
from torch.optim import Optimizer

# Official rule: rates are rounded to eight decimals when they are written to the optimizer.
RATE_DECIMALS = 8


def set_learning_rate(optimizer: Optimizer, rate: float) -> list[float]:
    """Write `rate` times its `lr_multiplier` to each group, rounded; returns the rates written.

    The product is rounded, not the rate: hand over what the schedule returned as it is.
    """
    for group in optimizer.param_groups:
        group["lr"] = round(rate * group.get("lr_multiplier", 1.0), RATE_DECIMALS)
    return [group["lr"] for group in optimizer.param_groups]


def step_unless(optimizer: Optimizer, non_finite: Tensor) -> None:
    """One optimizer step, left out (weights and state untouched) where `non_finite` is not 0.

    `non_finite` is a scalar on the device. A fused optimizer decides on the device; any other
    one (a user's own, say) is asked here, which waits for the device.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        switches: Any = optimizer  # two attributes that torch's GradScaler sets, too
        switches.grad_scale = None
        switches.found_inf = (non_finite != 0).to(float32).reshape(())
        optimizer.step()
    elif not bool(non_finite):
        optimizer.step()
