"""Options, sizes and layouts of MobileViT v2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cvnets
from config.errors import UserError
from cvnets.layers.linear_attention import LinearSelfAttention
from cvnets.layers.norm import ChannelLayerNorm


@pytest.fixture(scope="module")
def narrow(reference):
    return reference.fill(cvnets.create_model("mobilevit_v2_0.5"))


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.01, 0.33, 1.1, 3.0])
def test_any_positive_width_makes_a_network(width):
    with torch.device("meta"):
        network = cvnets.create_model("mobilevit_v2", width_multiplier=width)
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert all(channels % 8 == 0 for channels in network.channels.values())


@pytest.mark.parametrize("width", [0.0, -0.5, float("inf"), float("nan")])
def test_widths_that_are_no_size_are_refused(width):
    with pytest.raises(UserError, match="mobilevit_v2: width_multiplier: Input should be"):
        cvnets.create_model("mobilevit_v2", width_multiplier=width)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layer_norm_2d", nn.GroupNorm),
        ("layer_norm", ChannelLayerNorm),
        ("batch_norm", nn.BatchNorm2d),
    ],
)
def test_the_norm_of_the_transformer(name, kind):
    network = cvnets.create_model("mobilevit_v2_0.5", attn_norm_layer=name)
    for layer, depth in ((3, 2), (4, 4), (5, 3)):
        blocks = network.get_submodule(f"layer_{layer}.1.global_rep")
        assert type(blocks[depth]) is kind
        for block in blocks[:depth]:
            assert [type(block.pre_norm_attn[0]), type(block.pre_norm_ffn[0])] == [kind, kind]
    assert network(torch.rand(2, 3, 64, 64)).isfinite().all()
    with pytest.raises(UserError, match="attn_norm_layer: Input should be 'layer_norm_2d'"):
        cvnets.create_model("mobilevit_v2", attn_norm_layer="group_norm")


def test_dropouts_stand_where_the_names_say():
    network = cvnets.create_model(
        "mobilevit_v2_0.5", attn_dropout=0.1, ffn_dropout=0.2, dropout=0.3, classifier_dropout=0.4
    )
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    for layer, depth in ((3, 2), (4, 4), (5, 3)):
        for index in range(depth):
            block = f"layer_{layer}.1.global_rep.{index}"
            assert rates.pop(f"{block}.pre_norm_attn.2") == 0.3
            assert rates.pop(f"{block}.pre_norm_ffn.2") == 0.2
            assert rates.pop(f"{block}.pre_norm_ffn.4") == 0.3
    assert rates == {"classifier.dropout": 0.4}
    assert {m.dropout for m in network.modules() if isinstance(m, LinearSelfAttention)} == {0.1}
    plain = cvnets.create_model("mobilevit_v2_0.5")
    assert [name for name, _ in plain.classifier.named_children()] == ["global_pool", "1"]
    assert list(network.state_dict()) == list(plain.state_dict())


# --- sizes and layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (70, 40)])
def test_any_image_size(narrow, size):
    """Each level halves the map, rounding up; from l3 on to an even number."""
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = narrow.features(images)
        assert narrow(images).shape == (2, 1000)
    sides = size
    for level in ("l1", "l2", "l3", "l4", "l5"):
        sides = [-(-side // 2) for side in sides]
        if level not in ("l1", "l2"):
            sides = [side + side % 2 for side in sides]
        assert maps[level].shape == (2, narrow.channels[level], *sides)


def test_memory_layout_does_not_matter(narrow, reference):
    images = reference.images([2, 3, 64, 90])
    with torch.no_grad():
        expected = narrow(images)
        found = narrow(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
