"""Stochastic depth (Huang et al., "Deep networks with stochastic depth", ECCV 2016)."""

from __future__ import annotations

from torch import nn


def stochastic_depth(rate: float) -> nn.Module:
    """What stands at the end of a residual branch: in training it sets whole images to zero.

    `rate` in [0, 1]: the probability, drawn for each image of the batch on its own; what is kept
    is divided by 1 - rate. No state, and nothing at all at rate 0.
    """
    if rate == 0:
        return nn.Identity()
    from torchvision.ops import StochasticDepth  # here: `import cvnets` stays light

    return StochasticDepth(rate, mode="row")
