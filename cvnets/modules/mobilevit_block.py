"""The MobileViT block (Mehta and Rastegari, "MobileViT", 2021)."""

from __future__ import annotations

from collections import OrderedDict

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
        self.local_rep = nn.Sequential(
            OrderedDict(
                conv_3x3=ConvNormAct(channels, channels, kernel_size, style=style),
                conv_1x1=ConvNormAct(channels, dim, 1, norm=False, act=False, style=style),
            )
        )
        blocks = [
            TransformerBlock(dim, ffn_dim, num_heads=num_heads, style=style, dropouts=dropouts)
            for _ in range(depth)
        ]
        self.global_rep = nn.Sequential(*blocks, nn.LayerNorm(dim))
        self.conv_proj = ConvNormAct(dim, channels, 1, style=style)
        if fuse:
            self.fusion: nn.Module | None = ConvNormAct(
                2 * channels, channels, kernel_size, style=style
            )
        else:
            self.fusion = None

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, channels, H, W] -> the same shape."""
        projected = self.conv_proj(self._attend(self.local_rep(maps)))
        if self.fusion is None:
            return projected
        return self.fusion(torch.cat((maps, projected), dim=1))

    def _attend(self, local: Tensor) -> Tensor:
        """The transformer over the patches of a map [B, dim, H, W] of any size."""
        height, width = local.shape[2:]
        whole = resize_to_patches(local, PATCH)
        tokens = self.global_rep(unfold(whole, PATCH))
        return resize(fold(tokens, PATCH, (whole.shape[2], whole.shape[3])), (height, width))
