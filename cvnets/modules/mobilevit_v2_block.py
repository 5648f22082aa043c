"""The blocks of MobileViT v2 (Mehta and Rastegari, "Separable Self-attention for Mobile Vision
Transformers", 2022) and of the MobileViTv3 networks that are built on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from cvnets.layers.conv import ConvNormAct
from cvnets.layers.patches import fold, resize_to_patches, unfold
from cvnets.layers.style import LayerStyle
from cvnets.modules.mobilevit_block import PATCH
from cvnets.modules.transformer import NO_DROPOUT, Dropouts, LinearTransformerBlock


class MobileViTv2Block(nn.Module):
    """A depthwise convolution, then linear attention over the whole map; nothing goes around them.

    `dim`, `ffn_dim`, `depth`: width, hidden width and number of the transformer blocks; `norm`:
    their norm for a number of channels.
    """

    projected: ClassVar[int] = 1  # maps of width `dim` that conv_proj joins

    def __init__(
        self,
        channels: int,
        *,
        dim: int,
        ffn_dim: int,
        depth: int,
        style: LayerStyle,
        norm: Callable[[int], nn.Module],
        dilation: int = 1,
        dropouts: Dropouts = NO_DROPOUT,
    ):
        super().__init__()
        self.local_rep = nn.Sequential(
            ConvNormAct(channels, channels, 3, dilation=dilation, groups=channels, style=style),
            ConvNormAct(channels, dim, 1, norm=False, act=False, style=style),
        )
        blocks = [
            LinearTransformerBlock(dim, ffn_dim, style=style, norm=norm, dropouts=dropouts)
            for _ in range(depth)
        ]
        self.global_rep = nn.Sequential(*blocks, norm(dim))
        self.conv_proj = ConvNormAct(self.projected * dim, channels, 1, act=False, style=style)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, channels, H, W] -> [B, channels, H', W'], H and W rounded up to even numbers.

        A map with an odd side is enlarged on entry and stays so, as in the official networks.
        """
        maps = resize_to_patches(maps, PATCH, align_corners=True)
        local = self.local_rep(maps)
        return self._join(maps, local, self._attend(local))

    def _attend(self, local: Tensor) -> Tensor:
        """The transformer over the patches of a map [B, dim, H, W] with even sides."""
        batch, dim, height, width = local.shape
        # [B, dim, places in the patch, patches], the channels last in memory
        tokens = unfold(local, PATCH).reshape(batch, PATCH * PATCH, -1, dim).permute(0, 3, 1, 2)
        result = self.global_rep(tokens).permute(0, 2, 3, 1).flatten(0, 1)
        return fold(result, PATCH, (height, width))

    def _join(self, maps: Tensor, local: Tensor, result: Tensor) -> Tensor:
        """The output from the input and from the results of `local_rep` and `global_rep`."""
        return self.conv_proj(result)


class MobileViTv3OnV2Block(MobileViTv2Block):
    """The v2 block with fusion: the local result joins the global one, the input is added.

    Wadekar and Chaurasia, "MobileViTv3: Mobile-Friendly Vision Transformer with Simple and
    Effective Fusion of Local, Global and Input Features", 2022.
    """

    projected = 2

    def _join(self, maps: Tensor, local: Tensor, result: Tensor) -> Tensor:
        return maps + self.conv_proj(torch.cat((result, local), dim=1))
