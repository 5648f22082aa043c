"""Self attention over tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head self attention: tokens [B, N, dim] -> [B, N, dim].

    Rows of `qkv_proj`: queries, keys, values, each (heads, head width). `dropout` acts on the
    attention probabilities. One head is the plain single-head attention, with the same names.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float = 0.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}")
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.num_heads = num_heads
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        # [B, N, 3 dim] -> three views [B, heads, N, head width]
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv_proj(tokens).chunk(3, dim=-1)
        )
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, dropout={self.dropout}"
