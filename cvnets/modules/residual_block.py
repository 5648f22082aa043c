"""The residual blocks of ResNet (He et al., "Deep residual learning for image recognition", 2016)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from cvnets.layers.conv import ConvNormAct
from cvnets.layers.stochastic_depth import stochastic_depth
from cvnets.layers.style import LayerStyle
from cvnets.modules.squeeze_excitation import SqueezeExcitation

SE_REDUCTION = 16  # Hu et al., 2018, section 3.2


class ResidualBlock(nn.Module):
    """act(shortcut + block(x)): two 3x3 convolutions, or a bottleneck 1x1, 3x3, 1x1.

    `mid_channels`: of the 3x3 convolution; given, the block is a bottleneck. The first 3x3 has the
    stride. The shortcut is `down_sample`, a 1x1 convolution, where size or channels change.
    `squeeze_excitation`, `dropout` (rate) and stochastic depth (`drop_rate`) stand in this order
    at the end of the branch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        style: LayerStyle,
        mid_channels: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        squeeze_excitation: bool = False,
        dropout: float = 0.0,
        drop_rate: float = 0.0,
    ):
        super().__init__()
        conv_1x1 = partial(ConvNormAct, kernel_size=1, style=style)
        conv_3x3 = partial(ConvNormAct, kernel_size=3, dilation=dilation, style=style)
        block: OrderedDict[str, nn.Module] = OrderedDict()
        if mid_channels is None:
            block["conv_batch_act_1"] = conv_3x3(in_channels, out_channels, stride=stride)
            block["conv_batch_2"] = conv_3x3(out_channels, out_channels, act=False)
        else:
            block["conv_batch_act_1"] = conv_1x1(in_channels, mid_channels)
            block["conv_batch_act_2"] = conv_3x3(mid_channels, mid_channels, stride=stride)
            block["conv_batch_3"] = conv_1x1(mid_channels, out_channels, act=False)
        if squeeze_excitation:
            block["se"] = SqueezeExcitation(out_channels, out_channels // SE_REDUCTION, style=style)
        if dropout > 0:
            block["dropout"] = nn.Dropout(dropout)
        self.block = nn.Sequential(block)
        self.stochastic_depth = stochastic_depth(drop_rate)
        self.down_sample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.down_sample = conv_1x1(in_channels, out_channels, stride=stride, act=False)
        self.act = style.activation()

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride]."""
        return self.act(self.down_sample(maps) + self.stochastic_depth(self.block(maps)))
