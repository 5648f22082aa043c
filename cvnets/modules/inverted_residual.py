"""The inverted residual block of MobileNetV2 (Sandler et al., 2018)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cvnets.layers.channels import make_divisible
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.style import LayerStyle


class InvertedResidual(nn.Module):
    """Widen 1x1 (`exp_1x1`), depthwise 3x3 (`conv_3x3`), narrow 1x1 without activation (`red_1x1`).

    Without widening (expansion 1) `exp_1x1` is missing. The input is added where stride is 1
    and the channels stay.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: float,
        style: LayerStyle,
        stride: int = 1,
        dilation: int = 1,
    ):
        super().__init__()
        hidden = make_divisible(round(in_channels * expansion), 8)
        block: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            block["exp_1x1"] = ConvNormAct(in_channels, hidden, 1, style=style)
        block["conv_3x3"] = ConvNormAct(
            hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden, style=style
        )
        block["red_1x1"] = ConvNormAct(hidden, out_channels, 1, act=False, style=style)
        self.block = nn.Sequential(block)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride]."""
        return maps + self.block(maps) if self.residual else self.block(maps)
