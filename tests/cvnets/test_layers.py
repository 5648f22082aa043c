"""Layers against formulas written out."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from config.errors import UserError
from cvnets.layers.activation import (
    ACTIVATIONS,
    ActivationName,
    ActivationOptions,
    ActivationOverride,
)
from cvnets.layers.attention import SelfAttention
from cvnets.layers.channels import make_divisible
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import INITS, InitName, LayerOptions, initialise
from cvnets.layers.norm import NORMS, NormalizationOptions, NormName
from cvnets.layers.patches import fold, unfold
from cvnets.layers.pooling import POOLS, GlobalPool, PoolName
from cvnets.layers.style import LayerStyle
from cvnets.modules.inverted_residual import InvertedResidual

MAPS = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(1))


def style(norm="batch_norm", **rest) -> LayerStyle:
    return LayerStyle(normalization=NormalizationOptions(name=norm, **rest))


@pytest.mark.parametrize(
    ("names", "table"),
    [(ActivationName, ACTIVATIONS), (NormName, NORMS), (PoolName, POOLS), (InitName, INITS)],
)
def test_every_name_of_an_option_has_its_row(names, table):
    assert set(get_args(names)) == set(table)


@pytest.mark.parametrize(
    ("value", "divisor", "minimum", "expected"),
    [(32, 8, None, 32), (35, 8, None, 32), (36, 8, None, 40), (3, 8, None, 8), (11, 8, None, 16),
     (44.04, 8, None, 48), (16, 8, 16, 16), (9, 8, 16, 16), (88.08, 8, None, 88)],
)  # fmt: skip
def test_make_divisible(value, divisor, minimum, expected):
    assert make_divisible(value, divisor, minimum) == expected


# --- convolution units ---------------------------------------------------------------------------


def test_conv_unit_names_and_padding():
    unit = ConvNormAct(6, 8, 3, dilation=2, groups=2, style=style())
    assert [name for name, _ in unit.block.named_children()] == ["conv", "norm", "act"]
    assert list(dict(unit.named_parameters())) == [
        "block.conv.weight", "block.norm.weight", "block.norm.bias",
    ]  # fmt: skip
    assert unit(MAPS).shape == (2, 8, 5, 4)
    bare = ConvNormAct(6, 8, 1, norm=False, act=False, bias=True, style=style())
    assert list(bare.state_dict()) == ["block.conv.weight", "block.conv.bias"]
    assert ConvNormAct(6, 8, 5, stride=2, style=style())(MAPS).shape == (2, 8, 3, 2)


@pytest.mark.parametrize("norm", get_args(NormName))
def test_bias_in_front_of_a_norm_only_with_layer_norms(norm):
    unit = ConvNormAct(6, 6, 1, style=style(norm))
    assert (unit.block.conv.bias is not None) == norm.startswith("layer_norm")


def test_inverted_residual_parts_and_shortcut():
    wide = InvertedResidual(6, 6, expansion=2, style=style()).eval()
    assert [name for name, _ in wide.block.named_children()] == ["exp_1x1", "conv_3x3", "red_1x1"]
    assert wide.block.conv_3x3.block.conv.weight.shape == (16, 1, 3, 3)  # 12 rounds up to 16
    assert [name for name, _ in wide.block.red_1x1.block.named_children()] == ["conv", "norm"]
    torch.testing.assert_close(wide(MAPS), MAPS + wide.block(MAPS))
    for other in (
        InvertedResidual(6, 8, expansion=2, style=style()),
        InvertedResidual(6, 6, expansion=2, stride=2, style=style()),
    ):
        torch.testing.assert_close(other.eval()(MAPS), other.block(MAPS))
    narrow = InvertedResidual(8, 8, expansion=1, style=style())
    assert [name for name, _ in narrow.block.named_children()] == ["conv_3x3", "red_1x1"]


# --- norms, activations, pooling -----------------------------------------------------------------


def moments(maps, axes):
    mean = maps.mean(axes, keepdim=True)
    return (maps - mean) / ((maps - mean).square().mean(axes, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("batch_norm", (0, 2, 3)),
        ("sync_batch_norm", (0, 2, 3)),
        ("layer_norm_2d", (1, 2, 3)),
        ("layer_norm", (1,)),
        ("layer_norm_nchw", (1,)),
        ("instance_norm", (2, 3)),
    ],
)
def test_norms_by_formula(name, axes):
    norm = style(name).norm(6)
    assert {key: value.shape for key, value in norm.named_parameters()} == {
        "weight": (6,),
        "bias": (6,),
    }
    torch.testing.assert_close(norm(MAPS), moments(MAPS, axes))


def test_group_norm_and_momentum():
    grouped = style("group_norm", groups=3).norm(6)
    parts = moments(MAPS.reshape(2, 3, 2, 5, 4), (2, 3, 4)).reshape(MAPS.shape)
    torch.testing.assert_close(grouped(MAPS), parts)
    with pytest.raises(UserError, match="groups: 4 groups do not divide a layer of 6 channels"):
        style("group_norm", groups=4).norm(6)
    norm = style("batch_norm", momentum=0.25).norm(6)
    norm(MAPS)
    torch.testing.assert_close(norm.running_mean, 0.25 * MAPS.mean((0, 2, 3)))
    with pytest.raises(ValidationError):
        NormalizationOptions(momentum=1.5)


def test_only_sync_norms_ask_for_synchronisation():
    assert [name for name in get_args(NormName) if style(name).normalization.synchronised] == [
        "sync_batch_norm", "sync_batch_norm_fp32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("relu6", lambda x: x.clamp(0, 6)),
        ("leaky_relu", lambda x: torch.where(x > 0, x, 0.3 * x)),
        ("prelu", lambda x: torch.where(x > 0, x, 0.3 * x)),
        ("gelu", lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))),
        ("sigmoid", lambda x: 1 / (1 + torch.exp(-x))),
        ("swish", lambda x: x / (1 + torch.exp(-x))),
        ("hard_sigmoid", lambda x: (x + 3).clamp(0, 6) / 6),
        ("hard_swish", lambda x: x * (x + 3).clamp(0, 6) / 6),
        ("tanh", lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1)),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_activations_by_formula(name, formula, inplace):
    made = LayerStyle(activations=ActivationOptions(name=name, inplace=inplace, neg_slope=0.3))
    torch.testing.assert_close(made.activation()(4 * MAPS), formula(4 * MAPS))


def test_an_override_replaces_the_activation():
    plain = LayerStyle()
    assert isinstance(plain.activation(), nn.ReLU)
    assert plain.with_activation(ActivationOverride(inplace=True)) is plain
    changed = plain.with_activation(ActivationOverride(name="swish", inplace=True))
    assert isinstance(changed.activation(), nn.SiLU) and changed.activation().inplace
    assert changed.normalization == plain.normalization


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mean", lambda values: sum(values) / len(values)),
        ("abs", lambda values: sum(map(abs, values)) / len(values)),
        ("rms", lambda values: math.sqrt(sum(v * v for v in values) / len(values))),
    ],
)
def test_global_pools(name, formula):
    pooled = GlobalPool(name)(MAPS)
    assert pooled.shape == (2, 6)
    assert pooled[1, 2].item() == pytest.approx(formula(MAPS[1, 2].flatten().tolist()), rel=1e-5)


# --- attention and patches -----------------------------------------------------------------------


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_by_formula(heads):
    attention = SelfAttention(12, heads).double()
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    weight, bias = attention.qkv_proj.weight, attention.qkv_proj.bias
    width = 12 // heads
    results = []
    for head in range(heads):
        rows = [
            slice(12 * part + width * head, 12 * part + width * (head + 1)) for part in range(3)
        ]
        query, key, value = (tokens @ weight[r].T + bias[r] for r in rows)
        share = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(width), dim=-1)
        results.append(share @ value)
    expected = torch.cat(results, -1) @ attention.out_proj.weight.T + attention.out_proj.bias
    torch.testing.assert_close(attention(tokens), expected)
    assert list(attention.state_dict()) == [
        "qkv_proj.weight", "qkv_proj.bias", "out_proj.weight", "out_proj.bias",
    ]  # fmt: skip


def test_attention_drops_probabilities_in_training_only():
    attention = SelfAttention(12, 3, dropout=0.5)
    tokens = torch.randn(2, 5, 12)
    assert not torch.equal(attention(tokens), attention(tokens))
    attention.eval()
    assert torch.equal(attention(tokens), attention(tokens))
    with pytest.raises(ValueError, match="5 heads do not divide a width of 12"):
        SelfAttention(12, 5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("patch", [2, 3])
def test_unfold_pixel_by_pixel(layout, patch):
    maps = torch.randn(2, 5, 6, 12).contiguous(memory_format=layout)
    tokens = unfold(maps, patch)
    rows, columns = 6 // patch, 12 // patch
    assert tokens.shape == (2 * patch * patch, rows * columns, 5)
    for image in range(2):
        for y in range(6):
            for x in range(12):
                place = (y % patch) * patch + x % patch
                number = (y // patch) * columns + x // patch
                sequence = image * patch * patch + place
                assert torch.equal(tokens[sequence, number], maps[image, :, y, x])
    assert torch.equal(fold(tokens, patch, (6, 12)), maps)


# --- start values --------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(32, 64, 3),
        nn.BatchNorm2d(64),
        nn.LayerNorm(64),
        nn.Linear(256, 512),
        nn.GroupNorm(2, 8),
    )


CONV_OUT, CONV_IN, LINEAR_IN, LINEAR_OUT = 64 * 9, 32 * 9, 256, 512


@pytest.mark.parametrize(
    ("name", "std", "conv", "linear"),
    [
        ("kaiming_normal", None, math.sqrt(2 / CONV_OUT), math.sqrt(2 / LINEAR_IN)),
        ("kaiming_uniform", None, math.sqrt(2 / CONV_OUT), math.sqrt(2 / LINEAR_IN)),
        ("xavier_normal", None, math.sqrt(2 / (CONV_IN + CONV_OUT)), math.sqrt(2 / 768)),
        ("xavier_uniform", None, math.sqrt(2 / (CONV_IN + CONV_OUT)), math.sqrt(2 / 768)),
        ("normal", 0.03, 0.03, 0.03),
        ("trunc_normal", 0.02, 0.02, 0.02),
        ("normal", None, math.sqrt(1 / 32), math.sqrt(1 / 256)),
    ],
)
def test_start_values_have_the_spread_asked_for(name, std, conv, linear):
    made = network()
    before = made[3].weight.clone()
    options = LayerOptions(
        conv_init=name, conv_init_std_dev=std, linear_init=name, linear_init_std_dev=std
    )
    initialise(made, options, torch.Generator().manual_seed(0))
    assert made[0].weight.std().item() == pytest.approx(conv, rel=0.03)
    assert made[3].weight.std().item() == pytest.approx(linear, rel=0.03)
    assert not torch.equal(made[3].weight, before)
    if name.endswith("uniform"):
        assert made[3].weight.abs().max().item() == pytest.approx(math.sqrt(3) * linear, rel=0.01)


def test_a_projection_of_pixels_starts_as_a_linear_layer():
    """With a bias and no norm behind it a 1x1 convolution is one; with a norm it is none, bias or not,
    and without a bias it only changes the width (MobileViT in front of its transformer)."""
    layer_norm = LayerStyle(NormalizationOptions(name="layer_norm"))
    made = nn.Sequential(
        ConvNormAct(256, 512, 1, norm=False, bias=True, style=LayerStyle()),
        ConvNormAct(256, 512, 1, style=LayerStyle()),
        ConvNormAct(256, 512, 1, style=layer_norm),
        ConvNormAct(64, 64, 3, norm=False, bias=True, style=LayerStyle()),
        ConvNormAct(256, 512, 1, norm=False, style=LayerStyle()),
    )
    options = LayerOptions(
        conv_init="normal", conv_init_std_dev=0.5, linear_init="normal", linear_init_std_dev=0.02
    )
    initialise(made, options, torch.Generator().manual_seed(0))
    spreads = [unit.block.conv.weight.std().item() for unit in made]
    assert spreads == pytest.approx([0.02, 0.5, 0.5, 0.5, 0.5], rel=0.03)


def test_start_values_of_norms_and_biases():
    made = network()
    for parameter in made.parameters():
        nn.init.constant_(parameter, 5.0)
    initialise(made, LayerOptions())
    for index in (1, 2, 4):
        assert torch.equal(made[index].weight, torch.ones_like(made[index].weight))
    assert all(not value.any() for key, value in made.named_parameters() if key.endswith("bias"))


def test_start_values_come_from_the_seed():
    def weights(seed):
        made = network()
        initialise(
            made, LayerOptions(linear_init="trunc_normal"), torch.Generator().manual_seed(seed)
        )
        return torch.cat([p.flatten() for p in made.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    torch.manual_seed(4)
    first, second = network(), network()
    torch.manual_seed(5)
    initialise(first, LayerOptions())
    torch.manual_seed(5)
    initialise(second, LayerOptions())
    assert torch.equal(first[0].weight, second[0].weight)


def test_the_root_mean_square_of_an_empty_map_has_a_gradient():
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    GlobalPool("rms")(maps).sum().backward()
    assert maps.grad.isfinite().all()
