"""Linear attention against its formula, written out token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch.overrides import TorchFunctionMode

from cvnets.layers.linear_attention import LinearSelfAttention
from cvnets.layers.style import LayerStyle

DIM = 6


@pytest.fixture
def attention():
    torch.manual_seed(1)
    return LinearSelfAttention(DIM, style=LayerStyle()).double()


def sequences(count=2, tokens=5):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, DIM, count, tokens, dtype=torch.float64, generator=generator)


def test_each_sequence_by_formula(attention):
    tokens = sequences()
    state = {key: value.squeeze() for key, value in attention.state_dict().items()}
    rows = state["qkv_proj.block.conv.weight"], state["qkv_proj.block.conv.bias"]
    out = state["out_proj.block.conv.weight"], state["out_proj.block.conv.bias"]
    expected = torch.empty_like(tokens)
    for image in range(2):
        for place in range(2):
            vectors = [tokens[image, :, place, n] for n in range(5)]
            made = [rows[0] @ vector + rows[1] for vector in vectors]
            shares = [math.exp(value[0]) for value in made]
            context = sum(
                share / sum(shares) * value[1 : 1 + DIM]
                for share, value in zip(shares, made, strict=True)
            )
            for n, value in enumerate(made):
                expected[image, :, place, n] = out[0] @ (value[1 + DIM :].relu() * context) + out[1]
    torch.testing.assert_close(attention(tokens), expected)


def test_sequences_do_not_see_each_other_and_order_does_not_matter(attention):
    tokens = sequences(count=3, tokens=7)
    changed = tokens.clone()
    changed[:, :, 1] += 1
    before, after = attention(tokens), attention(changed)
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.allclose(before[:, :, 1], after[:, :, 1])
    order = torch.randperm(7)
    torch.testing.assert_close(attention(tokens[..., order]), before[..., order])


def test_weights_are_dropped_in_training_only():
    attention = LinearSelfAttention(DIM, style=LayerStyle(), dropout=0.5).double()
    tokens = sequences()
    assert not torch.equal(attention(tokens), attention(tokens))
    attention.eval()
    plain = LinearSelfAttention(DIM, style=LayerStyle()).double()
    plain.load_state_dict(attention.state_dict())
    assert torch.equal(attention(tokens), plain(tokens))


class LikeAutocast(TorchFunctionMode):
    """What autocast does on GPUs: softmax and sum give float32. `seen`: types that were summed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.sum:
            self.seen.append(args[0].dtype)
        return result.float() if func in (torch.Tensor.softmax, torch.Tensor.sum) else result


def test_autocast_does_not_blow_up_the_large_tensors(attention):
    tokens = sequences()
    exact = attention(tokens)
    with LikeAutocast() as mode:
        rounded = attention.bfloat16()(tokens.bfloat16())
    assert mode.seen == [torch.bfloat16]
    assert rounded.dtype is torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, rtol=0.05, atol=0.05)
