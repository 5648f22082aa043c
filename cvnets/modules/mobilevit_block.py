"""The blocks of MobileViT (Mehta and Rastegari, "MobileViT", 2021) and of the MobileViTv3 networks
that are built on it."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import Tensor, nn

from cvnets.layers.conv import ConvNormAct
from cvnets.layers.patches import fold, resize, resize_to_patches, unfold
from cvnets.layers.style import LayerStyle
from cvnets.modules.transformer import NO_DROPOUT, Dropouts, TransformerBlock

PATCH = 2  # side of a patch in pixels


class MobileViTBlock(nn.Module):
    """Local convolutions, a transformer over the whole map, and their fusion with the input.

    `dim`, `ffn_dim`, `depth`: width, hidden width and number of the transformer blocks.
    `fuse=False` leaves the fusion out: the projected transformer result is the output.
    """

    depthwise: ClassVar[bool] = False  # the local convolution

    def __init__(
        self,
        channels: int,
        *,
        dim: int,
        ffn_dim: int,
        depth: int,
        num_heads: int,
        style: LayerStyle,
        kernel_size: int = 3,
        fuse: bool = True,
        dropouts: Dropouts = NO_DROPOUT,
    ):
        super().__init__()
        groups = channels if self.depthwise else 1
        self.local_rep = nn.Sequential(
            OrderedDict(
                conv_3x3=ConvNormAct(channels, channels, kernel_size, groups=groups, style=style),
                conv_1x1=ConvNormAct(channels, dim, 1, norm=False, act=False, style=style),
            )
        )
        blocks = [
            TransformerBlock(dim, ffn_dim, num_heads=num_heads, style=style, dropouts=dropouts)
            for _ in range(depth)
        ]
        self.global_rep = nn.Sequential(*blocks, nn.LayerNorm(dim))
        self.conv_proj = ConvNormAct(dim, channels, 1, style=style)
        self.fusion = self._fusion(channels, dim, kernel_size, style) if fuse else None

    @staticmethod
    def _fusion(channels: int, dim: int, kernel_size: int, style: LayerStyle) -> nn.Module | None:
        return ConvNormAct(2 * channels, channels, kernel_size, style=style)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, channels, H, W] -> the same shape."""
        local = self.local_rep(maps)
        return self._join(maps, local, self.conv_proj(self._attend(local)))

    def _join(self, maps: Tensor, local: Tensor, projected: Tensor) -> Tensor:
        """The output from the input and from the results of `local_rep` and `conv_proj`."""
        if self.fusion is None:
            return projected
        return self.fusion(torch.cat((maps, projected), dim=1))

    def _attend(self, local: Tensor) -> Tensor:
        """The transformer over the patches of a map [B, dim, H, W] of any size."""
        height, width = local.shape[2:]
        whole = resize_to_patches(local, PATCH)
        tokens = self.global_rep(unfold(whole, PATCH))
        return resize(fold(tokens, PATCH, (whole.shape[2], whole.shape[3])), (height, width))


class MobileViTv3Block(MobileViTBlock):
    """The block with a depthwise local convolution; a 1x1 fusion of local and global result, and
    the input is added.

    Wadekar and Chaurasia, "MobileViTv3: Mobile-Friendly Vision Transformer with Simple and
    Effective Fusion of Local, Global and Input Features", 2022. `fuse=False` adds the input to the
    projected transformer result.
    """

    depthwise = True

    @staticmethod
    def _fusion(channels: int, dim: int, kernel_size: int, style: LayerStyle) -> nn.Module | None:
        return ConvNormAct(dim + channels, channels, 1, style=style)

    def _join(self, maps: Tensor, local: Tensor, projected: Tensor) -> Tensor:
        if self.fusion is None:
            return maps + projected
        return maps + self.fusion(torch.cat((local, projected), dim=1))
