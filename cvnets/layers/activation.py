"""Activations: the table of names, and the options that choose one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch import nn

from config.options import Options

ActivationName = Literal[
    "relu",
    "relu6",
    "leaky_relu",
    "prelu",
    "gelu",
    "sigmoid",
    "swish",
    "hard_sigmoid",
    "hard_swish",
    "tanh",
]


class ActivationOverride(Options):
    """An activation that replaces the one of `model.activation` in a part of the model."""

    name: ActivationName | None = Field(
        None, description="activation; null: the one of model.activation"
    )
    inplace: bool = Field(False, description="overwrite the input where the activation can")
    neg_slope: float = Field(
        0.1, ge=0.0, description="slope below zero of leaky_relu; start value of prelu"
    )


class ActivationOptions(ActivationOverride):
    """The activation between the layers."""

    name: ActivationName | None = Field(
        None,
        description="activation; swish is x * sigmoid(x), torch's SiLU; null: the network's own, "
        "relu elsewhere",
    )


ACTIVATIONS: dict[str, Callable[[ActivationOverride], nn.Module]] = {
    "relu": lambda options: nn.ReLU(options.inplace),
    "relu6": lambda options: nn.ReLU6(options.inplace),
    "leaky_relu": lambda options: nn.LeakyReLU(options.neg_slope, options.inplace),
    "prelu": lambda options: nn.PReLU(init=options.neg_slope),
    "gelu": lambda options: nn.GELU(),
    "sigmoid": lambda options: nn.Sigmoid(),
    "swish": lambda options: nn.SiLU(options.inplace),
    "hard_sigmoid": lambda options: nn.Hardsigmoid(options.inplace),
    "hard_swish": lambda options: nn.Hardswish(options.inplace),
    "tanh": lambda options: nn.Tanh(),
}
