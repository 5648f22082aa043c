"""Global pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

PoolName = Literal["mean", "abs", "rms"]

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean((2, 3)),
    "abs": lambda maps: maps.abs().mean((2, 3)),
    # the root of zero has no gradient
    "rms": lambda maps: maps.square().mean((2, 3)).clamp_min(torch.finfo(maps.dtype).tiny).sqrt(),
}


class GlobalPool(nn.Module):
    """Map [B, C, H, W] -> [B, C]: mean, mean of absolute values, or root mean square."""

    def __init__(self, name: PoolName = "mean"):
        super().__init__()
        self.name = name

    def forward(self, maps: Tensor) -> Tensor:
        return POOLS[self.name](maps)

    def extra_repr(self) -> str:
        return self.name
