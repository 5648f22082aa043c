"""The convolution unit (convolution, norm, activation), and the separable one made of two."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from cvnets.layers.style import LayerStyle


class ConvNormAct(nn.Module):
    """`block.conv`, `block.norm`, `block.act` (those that are asked for) on a map [B, C, H, W].

    The padding keeps the size at stride 1: ((kernel_size - 1) // 2) * dilation. Without a norm
    `bias` decides whether the convolution has one; with a norm the style does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        style: LayerStyle,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: bool = True,
        act: bool = True,
        bias: bool = False,
    ):
        super().__init__()
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=(kernel_size - 1) // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=style.bias_before_norm if norm else bias,
        )
        conv.is_projection = kernel_size == 1 and bias and not norm  # type: ignore[assignment]
        parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
        if norm:
            parts["norm"] = style.norm(out_channels)
        if act:
            parts["act"] = style.activation()
        self.block = nn.Sequential(parts)

    def forward(self, maps: Tensor) -> Tensor:
        return self.block(maps)


class SeparableConv(nn.Module):
    """Depthwise convolution (`dw_conv`), then 1x1 convolution (`pw_conv`), on a map [B, C, H, W].

    MobileNets (Howard et al., 2017), section 3.1. The depthwise unit has a norm, and an activation
    only with `depthwise_act`; `norm`, `act` and `bias` are those of the 1x1 unit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        style: LayerStyle,
        stride: int = 1,
        dilation: int = 1,
        norm: bool = True,
        act: bool = True,
        bias: bool = False,
        depthwise_act: bool = False,
    ):
        super().__init__()
        self.dw_conv = ConvNormAct(
            in_channels,
            in_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            groups=in_channels,
            act=depthwise_act,
            style=style,
        )
        self.pw_conv = ConvNormAct(
            in_channels, out_channels, 1, norm=norm, act=act, bias=bias, style=style
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.pw_conv(self.dw_conv(maps))
