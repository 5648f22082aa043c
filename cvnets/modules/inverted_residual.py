"""The inverted residual block of MobileNetV2 (Sandler et al., 2018), MobileNetV3 (Howard et al.,
2019) and EfficientNet (Tan and Le, 2019)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from cvnets.layers.channels import make_divisible
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.stochastic_depth import stochastic_depth
from cvnets.layers.style import LayerStyle


class InvertedResidual(nn.Module):
    """Widen 1x1 (`exp_1x1`), depthwise (`conv_3x3`), narrow 1x1 without activation (`red_1x1`).

    Without widening (expansion 1) `exp_1x1` is missing. `conv_3x3` keeps its name for any
    `kernel_size`. `attention`: given the hidden channels, makes the module `se` that stands behind
    the depthwise convolution. The input is added where stride is 1 and the channels stay; there
    the block is left out in training with probability `drop_rate`.
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
        kernel_size: int = 3,
        attention: Callable[[int], nn.Module] | None = None,
        drop_rate: float = 0.0,
    ):
        super().__init__()
        hidden = make_divisible(round(in_channels * expansion), 8)
        block: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            block["exp_1x1"] = ConvNormAct(in_channels, hidden, 1, style=style)
        block["conv_3x3"] = ConvNormAct(
            hidden,
            hidden,
            kernel_size,
            stride=stride,
            dilation=dilation,
            groups=hidden,
            style=style,
        )
        if attention is not None:
            block["se"] = attention(hidden)
        block["red_1x1"] = ConvNormAct(hidden, out_channels, 1, act=False, style=style)
        self.block = nn.Sequential(block)
        self.residual = stride == 1 and in_channels == out_channels
        self.stochastic_depth = stochastic_depth(drop_rate if self.residual else 0.0)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride]."""
        if self.residual:
            return maps + self.stochastic_depth(self.block(maps))
        return self.block(maps)
