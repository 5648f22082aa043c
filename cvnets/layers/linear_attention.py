"""Separable self attention of linear cost (Mehta and Rastegari, "Separable Self-attention for Mobile
Vision Transformers", 2022, section 3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cvnets.layers.conv import ConvNormAct
from cvnets.layers.style import LayerStyle


class LinearSelfAttention(nn.Module):
    """Separable self attention: sequences [B, dim, S, N] -> the same shape.

    The N tokens of each of the S sequences of an image share a context: the sum of their keys,
    weighted by a softmax of one score per token. It scales the rectified values. Rows of
    `qkv_proj`: the score, `dim` keys, `dim` values. `dropout` acts on the weights.
    """

    def __init__(self, dim: int, *, style: LayerStyle, dropout: float = 0.0):
        super().__init__()
        self.qkv_proj = ConvNormAct(
            dim, 1 + 2 * dim, 1, norm=False, act=False, bias=True, style=style
        )
        self.out_proj = ConvNormAct(dim, dim, 1, norm=False, act=False, bias=True, style=style)
        self.dim = dim
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        score, key, value = self.qkv_proj(tokens).split((1, self.dim, self.dim), dim=1)
        weight = F.dropout(score.softmax(dim=-1), self.dropout, self.training)
        # Autocast makes float32 of softmax and sum; the large tensors keep their type.
        context = (key * weight.type_as(key)).sum(dim=-1, keepdim=True).type_as(value)
        return self.out_proj(F.relu(value) * context)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"
