"""Normalisation of maps [B, C, H, W]: the table of names, and the options that choose one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from config.errors import UserError
from config.options import Options

NormName = Literal[
    "batch_norm",
    "batch_norm_2d",
    "batch_norm_fp32",
    "sync_batch_norm",
    "sync_batch_norm_fp32",
    "group_norm",
    "instance_norm",
    "instance_norm_2d",
    "layer_norm",
    "layer_norm_nchw",
    "layer_norm_2d",
]


class MomentumAnnealingOptions(Options):
    """Batch norms look at fewer and fewer new images: their momentum falls during training."""

    enable: bool = Field(False, description="let the momentum of batch norms fall")
    anneal_type: Literal["cosine", "linear"] = Field("cosine", description="how it falls")
    final_momentum_value: float = Field(
        1e-6, ge=0.0, le=1.0, description="momentum that it ends at"
    )


class NormalizationOptions(Options):
    """The normalisation behind the convolutions."""

    name: NormName = Field(
        "batch_norm",
        description="normalisation; sync_batch_norm shares the statistics of all GPU processes, "
        "layer_norm works on the channels of each pixel, layer_norm_2d on the map of each image",
    )
    groups: int = Field(1, ge=1, description="channel groups of group_norm")
    momentum: float = Field(
        0.1, ge=0.0, le=1.0, description="share of a batch in the running statistics of batch norm"
    )
    adjust_bn_momentum: MomentumAnnealingOptions = Field(
        default_factory=MomentumAnnealingOptions, description="a momentum that falls"
    )

    @property
    def synchronised(self) -> bool:
        """True if batch norms should share statistics where several GPU processes run."""
        return self.name.startswith("sync_")


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map [B, C, H, W]."""

    def forward(self, maps: Tensor) -> Tensor:
        pixels = maps.permute(0, 2, 3, 1)
        normed = F.layer_norm(pixels, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class FrozenBatchNorm(nn.Module):
    """A batch norm that nothing changes any more, with the same entries of the state.

    A class of its own, because `train()` on the network would wake a batch norm in evaluation mode.
    Those of timm have an activation and a dropout behind them, which stay as they are.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        self.eps = norm.eps
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.data, requires_grad=False))
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        for name, behind in norm.named_children():
            self.add_module(name, behind)

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.batch_norm(
            maps, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
        for behind in self.children():
            maps = behind(maps)
        return maps


def freeze_batch_norms(network: nn.Module) -> int:
    """Put a `FrozenBatchNorm` in the place of every batch norm inside `network`; how many.

    UserError for a norm that is derived from a batch norm in a way that is not known here.
    """
    frozen = 0
    for module in list(network.modules()):
        for name, child in module.named_children():
            if not isinstance(child, nn.BatchNorm2d):
                continue
            if type(child) is not nn.BatchNorm2d and type(child).__name__ != "BatchNormAct2d":
                raise UserError(
                    f"freeze_batch_norm: {name} is a {type(child).__name__}, of which is not known "
                    "what it does besides; choose another backbone, or set it to false"
                )
            setattr(module, name, FrozenBatchNorm(child))
            frozen += 1
    return frozen


def _batch_norm(options: NormalizationOptions, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, momentum=options.momentum)


def _group_norm(options: NormalizationOptions, channels: int) -> nn.Module:
    if channels % options.groups:
        raise UserError(
            f"model.normalization.groups: {options.groups} groups do not divide "
            f"a layer of {channels} channels"
        )
    return nn.GroupNorm(options.groups, channels)


def _instance_norm(options: NormalizationOptions, channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _layer_norm(options: NormalizationOptions, channels: int) -> nn.Module:
    return ChannelLayerNorm(channels)


# Torch's batch norm computes its statistics in float32 even under mixed precision, so the
# `_fp32` names need nothing of their own. The engine turns BatchNorm2d into SyncBatchNorm
# where several GPU processes run: `NormalizationOptions.synchronised` tells it.
NORMS: dict[str, Callable[[NormalizationOptions, int], nn.Module]] = {
    "batch_norm": _batch_norm,
    "batch_norm_2d": _batch_norm,
    "batch_norm_fp32": _batch_norm,
    "sync_batch_norm": _batch_norm,
    "sync_batch_norm_fp32": _batch_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "instance_norm_2d": _instance_norm,
    "layer_norm": _layer_norm,
    "layer_norm_nchw": _layer_norm,
    "layer_norm_2d": lambda options, channels: nn.GroupNorm(1, channels),
}
