"""The feature pyramid (Lin et al., "Feature pyramid networks for object detection", CVPR 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cvnets.layers.conv import ConvNormAct
from cvnets.layers.style import LayerStyle


class FeaturePyramid(nn.Module):
    """Hands what the coarse maps know down to the finer ones; section 3 of the paper.

    `channels`: name of a level -> channels of its map, the finest level first. To each map, after a
    1x1 convolution (`proj_layers`), the next coarser result is added, enlarged to its size; a 3x3
    convolution (`nxn_convs`) makes the level's result. All have a norm and no activation. As in the
    official code the sum goes down through the 3x3 convolutions; in the paper it passes them by.
    """

    def __init__(self, channels: Mapping[str, int], out_channels: int, *, style: LayerStyle):
        super().__init__()
        self.proj_layers = nn.ModuleDict()
        self.nxn_convs = nn.ModuleDict()
        for level, inside in channels.items():
            self.proj_layers[level] = ConvNormAct(inside, out_channels, 1, act=False, style=style)
            self.nxn_convs[level] = ConvNormAct(
                out_channels, out_channels, 3, act=False, style=style
            )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B, channels, H, W], the finest first -> as many [B, out_channels, H, W]."""
        results: list[Tensor] = []
        levels = list(zip(maps, self.proj_layers.values(), self.nxn_convs.values(), strict=True))
        for level, project, convolve in reversed(levels):
            inside = project(level)
            if results:
                inside = inside + F.interpolate(results[-1], inside.shape[2:], mode="nearest")
            results.append(convolve(inside))
        return results[::-1]
