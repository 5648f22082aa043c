"""An optimizer: any class of torch.optim, or derived from torch.optim.Optimizer."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch.optim import RMSprop

from config.options import Options
from optim.kinds import OPTIMIZERS


class TinyRmspropOptions(Options):
    """`optim.tiny_rmsprop`."""

    alpha: float = Field(0.99, ge=0, lt=1, description="decay of the squared gradient's mean")
    momentum: float = Field(0.0, ge=0, lt=1, description="share of the last update kept")


@OPTIMIZERS.register("tiny_rmsprop", options=TinyRmspropOptions)
def tiny_rmsprop(options: TinyRmspropOptions, *, groups: list[dict[str, Any]]) -> RMSprop:
    """RMSprop; the rate is set by the schedule before each step."""
    return RMSprop(groups, alpha=options.alpha, momentum=options.momentum)
