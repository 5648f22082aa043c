"""The optimizers: torch's fused implementations with the official defaults.

A fused optimizer can leave out a step on the device (`optim.update.step_unless`), so that a
non-finite gradient costs no synchronisation with the host.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch.optim import SGD, Adam, AdamW, Optimizer

from config.options import Options
from optim.kinds import OPTIMIZERS

# The rate belongs to the schedule and is set before every step; until then nothing moves.
UNSET_RATE = 0.0
DEFAULT_EPS = 1e-8


class SgdOptions(Options):
    """Options of stochastic gradient descent."""

    momentum: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="share of the last update kept"
    )
    nesterov: bool = Field(default=False, description="Nesterov's form of momentum")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SgdOptions:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError(
                "nesterov: needs a momentum above 0; set momentum, e.g. 0.9, or nesterov: false"
            )
        return self


class AdamOptions(Options):
    """Options of Adam, with weight decay as a part of the gradient or (adamw) decoupled from it."""

    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="decay of the gradient's mean")
    beta2: float = Field(
        default=0.98, ge=0.0, lt=1.0, description="decay of the squared gradient's mean"
    )
    amsgrad: bool = Field(default=False, description="divide by the largest second moment so far")
    eps: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="added to the divisor; null means 1e-8",
    )


@OPTIMIZERS.register("sgd", options=SgdOptions)
def sgd(options: SgdOptions, groups: list[dict[str, Any]]) -> SGD:
    """Stochastic gradient descent with momentum; its rate is set by the schedule."""
    optimizer = SGD(
        groups,
        lr=UNSET_RATE,
        momentum=options.momentum,
        nesterov=options.nesterov,
        fused=True,
    )
    optimizer.register_step_pre_hook(_start_momentum_at_zero)
    return optimizer


@OPTIMIZERS.register("adam", options=AdamOptions)
def adam(options: AdamOptions, groups: list[dict[str, Any]]) -> Adam:
    """Adam, the weight decay added to the gradient; its rate is set by the schedule."""
    return Adam(groups, lr=UNSET_RATE, fused=True, **_of_adam(options))


@OPTIMIZERS.register("adamw", options=AdamOptions)
def adamw(options: AdamOptions, groups: list[dict[str, Any]]) -> AdamW:
    """Adam with decoupled weight decay; its rate is set by the schedule."""
    return AdamW(groups, lr=UNSET_RATE, fused=True, **_of_adam(options))


def _of_adam(options: AdamOptions) -> dict[str, Any]:
    return {
        "betas": (options.beta1, options.beta2),
        "eps": DEFAULT_EPS if options.eps is None else options.eps,
        "amsgrad": options.amsgrad,
    }


def _start_momentum_at_zero(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Give each parameter a momentum of zero before its first step.

    torch's fused SGD allocates the buffers uninitialised and fills them in the first step; if
    `found_inf` leaves that step out, the next one would continue from whatever the memory held.
    From zeros the first step computes the same (the buffer becomes the gradient).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if group["momentum"] != 0.0 and parameter.grad is not None:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
