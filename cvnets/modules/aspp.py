"""Atrous spatial pyramid pooling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvnets.layers.conv import ConvNormAct, SeparableConv
from cvnets.layers.style import LayerStyle


class PooledContext(nn.Module):
    """The mean of a map [B, C, H, W] through a 1x1 convolution, spread over the map again.

    In training a batch norm needs two images: of one there is only one value of each channel.
    """

    def __init__(self, in_channels: int, out_channels: int, *, style: LayerStyle):
        super().__init__()
        parts = OrderedDict(
            global_pool=nn.AdaptiveAvgPool2d(1),
            conv_1x1=ConvNormAct(in_channels, out_channels, 1, style=style),
        )
        self.aspp_pool = nn.Sequential(parts)

    def forward(self, maps: Tensor) -> Tensor:
        # what is resized has one pixel, so every way to do it gives the same
        return self.aspp_pool(maps).expand(-1, -1, *maps.shape[2:])


class ASPP(nn.Module):
    """Looks at a map [B, C, H, W] at several distances at once: [B, out_channels, H, W].

    "Rethinking atrous convolution for semantic image segmentation" (Chen et al., 2017), section 3.3:
    a 1x1 convolution, a 3x3 one for each of `rates` (its dilation), the pooled context; all joined
    by a 1x1 convolution. `separable`: the 3x3 ones are depthwise, then 1x1, as in DeepLabv3+ (Chen
    et al., 2018, section 3.1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int],
        *,
        separable: bool,
        style: LayerStyle,
    ):
        super().__init__()
        conv = SeparableConv if separable else ConvNormAct
        self.convs = nn.ModuleList([ConvNormAct(in_channels, out_channels, 1, style=style)])
        for rate in rates:
            self.convs.append(conv(in_channels, out_channels, 3, dilation=rate, style=style))
        self.convs.append(PooledContext(in_channels, out_channels, style=style))
        self.project = ConvNormAct(len(self.convs) * out_channels, out_channels, 1, style=style)

    def forward(self, maps: Tensor) -> Tensor:
        return self.project(torch.cat([conv(maps) for conv in self.convs], dim=1))


class PyramidPooling(nn.Module):
    """Joins a map [B, C, H, W] with its means over grids of several sizes: [B, out_channels, H, W].

    "Pyramid scene parsing network" (Zhao et al., CVPR 2017), section 3.2. The means of a grid have
    C over the number of grids channels, rounded down to a multiple of 16.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grids: Sequence[int],
        *,
        dropout: float,
        style: LayerStyle,
    ):
        super().__init__()
        inside = in_channels // len(grids) // 16 * 16
        self.psp_branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(grid), ConvNormAct(in_channels, inside, 1, style=style)
            )
            for grid in grids
        )
        joined = in_channels + len(grids) * inside
        self.fusion = nn.Sequential(
            ConvNormAct(joined, out_channels, 3, style=style), nn.Dropout2d(dropout)
        )

    def forward(self, maps: Tensor) -> Tensor:
        size = maps.shape[2:]
        levels = [
            F.interpolate(branch(maps), size, mode="bilinear", align_corners=True)
            for branch in self.psp_branches
        ]
        return self.fusion(torch.cat([maps, *levels], dim=1))
