"""The start values of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeGuard

from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import init
from torch.nn.modules.batchnorm import _NormBase

from config.options import Options
from cvnets.layers.pooling import PoolName

InitName = Literal[
    "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "normal", "trunc_normal"
]
_STD_TEXT = "standard deviation for normal and trunc_normal; null: 1 / sqrt(weight.shape[1])"


class LayerOptions(Options):
    """Start values of the weights, and the pooling in front of the classifier."""

    conv_init: InitName = Field("kaiming_normal", description="start values of convolutions")
    conv_init_std_dev: float | None = Field(None, gt=0.0, description=_STD_TEXT)
    linear_init: InitName = Field("xavier_uniform", description="start values of linear layers")
    linear_init_std_dev: float | None = Field(0.01, gt=0.0, description=_STD_TEXT)
    global_pool: PoolName = Field("mean", description="how a map becomes one value per channel")


Fill = Callable[[Tensor, float, str, Generator | None], object]

# (weight, std, fan, generator) -> filled; std counts for the two normals, fan for kaiming.
INITS: dict[str, Fill] = {
    "kaiming_normal": lambda w, std, fan, g: init.kaiming_normal_(w, mode=fan, generator=g),  # type: ignore[arg-type]
    "kaiming_uniform": lambda w, std, fan, g: init.kaiming_uniform_(w, mode=fan, generator=g),  # type: ignore[arg-type]
    "xavier_normal": lambda w, std, fan, g: init.xavier_normal_(w, generator=g),
    "xavier_uniform": lambda w, std, fan, g: init.xavier_uniform_(w, generator=g),
    "normal": lambda w, std, fan, g: init.normal_(w, std=std, generator=g),
    "trunc_normal": lambda w, std, fan, g: init.trunc_normal_(w, std=std, generator=g),
}

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def initialise(
    network: nn.Module, options: LayerOptions, generator: Generator | None = None
) -> None:
    """Fill the convolutions and linear layers of `network`; norms become 1 and 0, biases 0.

    Units of a 1x1 convolution with a bias and without a norm are linear layers: nothing behind them
    evens out their scale (separable attention, squeeze-excitation). Kaiming keeps the variance of
    the gradient in convolutions (fan_out) and of the signal in linear layers (fan_in). Numbers come
    from `generator`, else from torch's global one.
    """
    for module in network.modules():
        if _is_linear(module):
            _fill(
                module.weight, options.linear_init, options.linear_init_std_dev, "fan_in", generator
            )
        elif isinstance(module, _CONVS):
            _fill(module.weight, options.conv_init, options.conv_init_std_dev, "fan_out", generator)
        elif isinstance(module, _NORMS):
            if module.weight is not None:
                init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            init.zeros_(module.bias)


def _is_linear(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    return isinstance(module, nn.Linear) or getattr(module, "is_projection", False)


def _fill(
    weight: Tensor, name: InitName, std: float | None, fan: str, generator: Generator | None
) -> None:
    INITS[name](weight, std or weight.shape[1] ** -0.5, fan, generator)
