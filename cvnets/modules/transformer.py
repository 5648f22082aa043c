"""The transformer blocks with norms in front."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from cvnets.layers.attention import SelfAttention
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.linear_attention import LinearSelfAttention
from cvnets.layers.style import LayerStyle


class Dropouts(NamedTuple):
    """Dropout rates: attention probabilities, hidden layer, results of the two branches."""

    attention: float = 0.0
    ffn: float = 0.0
    branch: float = 0.0


NO_DROPOUT = Dropouts()


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), on tokens [B, N, dim].

    The activation of the hidden layer is the style's. Dropouts stand in place at rate 0, too:
    the positions in `pre_norm_ffn` are part of the parameter names.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        *,
        num_heads: int,
        style: LayerStyle,
        dropouts: Dropouts = NO_DROPOUT,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ):
        super().__init__()
        self.pre_norm_mha = nn.Sequential(
            norm(dim),
            SelfAttention(dim, num_heads, dropout=dropouts.attention),
            nn.Dropout(dropouts.branch),
        )
        self.pre_norm_ffn = nn.Sequential(
            norm(dim),
            nn.Linear(dim, ffn_dim),
            style.activation(),
            nn.Dropout(dropouts.ffn),
            nn.Linear(ffn_dim, dim),
            nn.Dropout(dropouts.branch),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.pre_norm_mha(tokens)
        return tokens + self.pre_norm_ffn(tokens)


class LinearTransformerBlock(nn.Module):
    """x + linear attention(norm(x)), then x + mlp(norm(x)), on sequences [B, dim, S, N].

    Activation and dropouts are those of `TransformerBlock`.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        *,
        style: LayerStyle,
        norm: Callable[[int], nn.Module],
        dropouts: Dropouts = NO_DROPOUT,
    ):
        super().__init__()
        self.pre_norm_attn = nn.Sequential(
            norm(dim),
            LinearSelfAttention(dim, style=style, dropout=dropouts.attention),
            nn.Dropout(dropouts.branch),
        )
        self.pre_norm_ffn = nn.Sequential(
            norm(dim),
            ConvNormAct(dim, ffn_dim, 1, norm=False, bias=True, style=style),
            nn.Dropout(dropouts.ffn),
            ConvNormAct(ffn_dim, dim, 1, norm=False, act=False, bias=True, style=style),
            nn.Dropout(dropouts.branch),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.pre_norm_attn(tokens)
        return tokens + self.pre_norm_ffn(tokens)
