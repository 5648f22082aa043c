"""The `optim` section of a recipe: what all optimizers share."""

from __future__ import annotations

from pydantic import Field

from config.options import Section


class OptimSection(Section):
    """Optimizer of the training run, and the weight decay of its parameter groups."""

    name: str = Field(default="sgd", description="optimizer, e.g. sgd, adam or adamw")
    weight_decay: float = Field(
        default=4e-5,
        ge=0.0,
        allow_inf_nan=False,
        description="weight decay of all parameters that are decayed",
    )
    no_decay_bn_filter_bias: bool = Field(
        default=False,
        description="parameters of at most one dimension (biases, weights of norms) are not decayed",
    )
