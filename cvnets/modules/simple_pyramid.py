"""The simple feature pyramid (Li et al., "Exploring plain vision transformer backbones for object
detection", ECCV 2022, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from cvnets.layers.norm import ChannelLayerNorm
from cvnets.layers.style import LayerStyle

CHANNELS = 256  # of all maps

_norm = partial(ChannelLayerNorm, eps=1e-6)


class SimplePyramid(nn.ModuleDict):
    """Maps of several strides, each by its own layers, from the one map of a plain transformer.

    `native`: stride of that map; `strides`: level -> stride, each `native` times a power of two,
    at most twice as much. A finer map is made by transposed 2x2 convolutions that halve the
    channels, a coarser one by max pooling; then a 1x1 and a 3x3 convolution follow.
    """

    def __init__(self, dim: int, native: int, strides: Mapping[str, int], *, style: LayerStyle):
        super().__init__(
            {level: _layers(dim, native, stride, style) for level, stride in strides.items()}
        )

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """Map [B, dim, H, W] -> level -> [B, 256, H native / stride, W native / stride]."""
        return {level: layers(maps) for level, layers in self.items()}


def _layers(dim: int, native: int, stride: int, style: LayerStyle) -> nn.Sequential:
    scaled: list[nn.Module] = []
    if stride > native:
        scaled.append(nn.MaxPool2d(2, ceil_mode=True))
    while native > stride:
        if scaled:
            scaled += [_norm(dim), style.activation()]
        scaled.append(nn.ConvTranspose2d(dim, dim // 2, 2, stride=2))
        dim, native = dim // 2, native // 2
    return nn.Sequential(
        *scaled,
        nn.Conv2d(dim, CHANNELS, 1, bias=False),
        _norm(CHANNELS),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        _norm(CHANNELS),
    )
