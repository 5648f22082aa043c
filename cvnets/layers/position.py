"""Position embeddings of tokens that lie on a grid."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import init

from cvnets.layers.patches import resize

PositionResize = Literal["tokens", "grid"]


class PositionTable(nn.Module):
    """Adds a table of `side` * `side` positions, resized to the grid at hand.

    `resize_along` "tokens" interpolates linearly over the one row of tokens, whatever the shape of
    the grid; "grid" interpolates bilinearly in two dimensions, so that a token keeps its place in
    the image (Dosovitskiy et al., "An image is worth 16x16 words", 2021, section 3.2).
    """

    pos_embed: Tensor  # [1, 1, side * side, dim]

    def __init__(self, dim: int, side: int, *, learnt: bool, resize_along: PositionResize):
        super().__init__()
        self.side = side
        self.resize_along = resize_along
        if learnt:
            self.pos_embed = nn.Parameter(torch.empty(1, 1, side * side, dim))
            init.trunc_normal_(self.pos_embed, std=0.02)
        else:
            self.register_buffer("pos_embed", sinusoids(side * side, dim), persistent=False)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B, rows * columns, dim], row by row, of a grid (rows, columns): the same shape."""
        if self.resize_along == "grid":
            table = self.pos_embed[0].transpose(1, 2).reshape(1, -1, self.side, self.side)
            return tokens + resize(table, grid).flatten(2).transpose(1, 2)
        return tokens + resize(self.pos_embed, (tokens.shape[1], tokens.shape[2]))[0]

    def extra_repr(self) -> str:
        return f"side={self.side}, resize_along={self.resize_along}"


def sinusoids(count: int, dim: int) -> Tensor:
    """[1, 1, count, dim]: sine in the even, cosine in the odd channels, wavelengths 2 pi to
    10000 * 2 pi (Vaswani et al., "Attention is all you need", 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(count).unsqueeze(1) * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)[None, None]
