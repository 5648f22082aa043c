"""The model card of networks small enough to be counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cvnets.layers.attention import SelfAttention
from cvnets.profile import OTHER, StageProfile, profile


def counted(card):
    return card.parameters, card.multiply_accumulates, card.activations


def test_convolutions_and_linear_layers_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8x6 pixels -> 4x3
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2),  # -> 8x6
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    card = profile(network, (8, 6))
    pixels = 4 * 3
    assert card.stages == (
        StageProfile("0", (8, 4, 3), 3 * 8 * 9 + 8, pixels * 8 * 3 * 9, pixels * 8),
        StageProfile("1", (8, 4, 3), 16, 0, 0),
        StageProfile("2", (8, 4, 3), 8 * 9, pixels * 8 * 9, pixels * 8),
        StageProfile("3", (4, 8, 6), 8 * 2 * 4 + 4, pixels * 8 * 2 * 4, 8 * 6 * 4),
        StageProfile("7", (5,), 4 * 5 + 5, 4 * 5, 5),
    )
    assert counted(card) == (
        224 + 16 + 72 + 68 + 25,
        2592 + 864 + 768 + 20,
        96 + 96 + 192 + 5,
    )


class Tokens(nn.Module):
    """The pixels of an image [1, 3, H, W] as 3 wide tokens, widened to `dim`, and an attention."""

    def __init__(self, attention: nn.Module, dim: int = 8):
        super().__init__()
        self.widen = nn.Linear(3, dim, bias=False)
        self.attention = attention

    def forward(self, images):
        return self.attention(self.widen(images.flatten(2).transpose(1, 2)))


class AttentionInSteps(SelfAttention):
    """The same with the two products written out."""

    def forward(self, tokens):
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.qkv_proj(tokens).chunk(3, dim=-1)
        )
        scores = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        return self.out_proj((scores @ value).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("attention", [SelfAttention, AttentionInSteps])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_attention_is_its_two_products_however_it_is_computed(attention, device):
    tokens, dim, heads = 12, 8, 2
    card = profile(Tokens(attention(dim, heads)).to(device), (3, 4))
    projections = tokens * dim * 3 * dim + tokens * dim * dim
    products = 2 * heads * tokens * tokens * (dim // heads)
    assert card.stages[1] == StageProfile(
        name="attention",
        output=(tokens, dim),
        parameters=dim * 3 * dim + 3 * dim + dim * dim + dim,
        multiply_accumulates=projections + products,
        activations=tokens * 3 * dim + heads * tokens * tokens + tokens * dim + tokens * dim,
    )
    assert card.stages[0].activations == tokens * dim


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_transformer_layer_of_torch_takes_no_short_cut(device):
    tokens, dim, hidden = 12, 8, 20
    layer = nn.TransformerEncoderLayer(dim, 2, hidden, batch_first=True)
    card = profile(Tokens(layer).to(device), (3, 4))
    attention = tokens * dim * 4 * dim + 2 * tokens * tokens * dim
    assert card.stages[1].multiply_accumulates == attention + 2 * tokens * dim * hidden
    assert card.stages[1].activations == tokens * (6 * dim + hidden) + 2 * tokens * tokens
    assert torch.backends.mha.get_fastpath_enabled()


def test_queries_may_be_fewer_than_keys_and_values_of_another_width():
    class Cross(nn.Module):
        def forward(self, images):  # 3 queries, 12 keys of width 5, values of width 7
            keys = images.new_zeros(1, 2, 12, 5)
            return F.scaled_dot_product_attention(keys[:, :, :3], keys, keys.new_zeros(1, 2, 12, 7))

    for device in ("cpu", "meta"):
        with torch.device(device):
            card = profile(nn.Sequential(nn.Conv2d(3, 1, 1), Cross()), (2, 2))
        assert card.stages[1].multiply_accumulates == 2 * 3 * 12 * (5 + 7)
        assert card.stages[1].activations == 2 * 3 * (12 + 7)


class Pair(nn.Linear):
    """Does nothing but own four parameters."""

    def __init__(self):
        super().__init__(2, 2, bias=False)

    def forward(self, pair):
        return pair


def test_stages_stand_in_the_order_of_their_calls_and_the_rest_behind_them():
    class WithToken(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Conv2d(3, 3, 1, bias=False) for _ in range(2)])
            self.unused = nn.Linear(2, 2, bias=False)
            self.pair = Pair()
            self.token = nn.Parameter(torch.zeros(7))
            self.first = nn.Conv2d(3, 3, 1, bias=False)
            self.register_buffer("table", torch.zeros(100))

        def forward(self, images):
            images = self.first(images)
            for block in self.blocks:
                images = block(images)
            images, _ = self.pair((images, images))
            return F.conv2d(images, self.token[:3].reshape(1, 3, 1, 1))

    card = profile(WithToken(), (2, 2))
    assert card.stages == (
        StageProfile("first", (3, 2, 2), 9, 9 * 4, 12),
        StageProfile("blocks", (3, 2, 2), 2 * 9, 2 * 9 * 4, 2 * 12),
        StageProfile("pair", None, 4, 0, 0),
        StageProfile("unused", None, 4, 0, 0),
        StageProfile(OTHER, None, 7, 3 * 4, 4),
    )
    assert counted(card) == (9 + 18 + 4 + 4 + 7, 36 + 72 + 12, 12 + 24 + 4)
    assert profile(nn.Sequential(nn.Sequential(WithToken())), (2, 2)) == card


def test_shared_weights_are_counted_once_and_their_work_twice():
    first = nn.Conv2d(3, 3, 1, bias=False)
    second = nn.Conv2d(3, 3, 1, bias=False)
    second.weight = first.weight
    card = profile(nn.Sequential(first, second, nn.Sequential(first, first)), (1, 2))
    assert {stage.name: stage.parameters for stage in card.stages} == {"0": 9, "1": 0, "2": 0}
    assert {stage.name: stage.activations for stage in card.stages} == {"0": 6, "1": 6, "2": 12}
    assert counted(card) == (9, 4 * 9 * 2, 4 * 6)
