"""Squeeze and excitation (Hu et al., "Squeeze-and-excitation networks", CVPR 2018)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cvnets.layers.activation import ActivationName
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.style import LayerStyle


class SqueezeExcitation(nn.Module):
    """Weights the channels of a map [B, channels, H, W] by a gate that its means decide.

    `se_layer`: mean over the map, `fc1` to `squeezed` channels with the activation of the style,
    `fc2` back, and the `gate` (`sigmoid`, or `hard_sigmoid` in MobileNetV3).
    """

    def __init__(
        self, channels: int, squeezed: int, *, style: LayerStyle, gate: ActivationName = "sigmoid"
    ):
        super().__init__()
        gated = style.with_activation(gate)
        self.se_layer = nn.Sequential(
            OrderedDict(
                global_pool=nn.AdaptiveAvgPool2d(1),
                fc1=ConvNormAct(channels, squeezed, 1, norm=False, bias=True, style=style),
                fc2=ConvNormAct(squeezed, channels, 1, norm=False, bias=True, style=gated),
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.se_layer(maps)
