"""Options, sizes and layouts of MobileViT."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

import cvnets
from config.errors import UserError
from cvnets.layers.attention import SelfAttention
from cvnets.models.classification.mobilevit import VARIANTS, MobileViTOptions


@pytest.fixture(scope="module")
def xx_small(reference):
    return reference.fill(cvnets.create_model("mobilevit_xx_small"))


# --- options -------------------------------------------------------------------------------------


def test_heads_by_number_or_by_width():
    def heads(**options):
        network = cvnets.create_model("mobilevit_small", **options)
        return [m.num_heads for m in network.modules() if isinstance(m, SelfAttention)]

    assert set(heads()) == {4}
    assert set(heads(number_heads=2)) == {2}
    assert heads(head_dim=24) == [6] * 2 + [8] * 4 + [10] * 3


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="head_dim and number_heads exclude each other"):
        cvnets.create_model("mobilevit_small", head_dim=24, number_heads=4)
    with pytest.raises(UserError, match=r"mit\.number_heads: 5 does not divide the width 144"):
        cvnets.create_model("mobilevit_small", number_heads=5)
    with pytest.raises(UserError, match=r"mit\.head_dim: 36 does not divide the width 192"):
        cvnets.create_model("mobilevit_small", head_dim=36)
    with pytest.raises(UserError, match=r"mit\.head_dim: 500 does not divide"):
        cvnets.create_model("mobilevit_small", head_dim=500)


def test_modes_of_version_3_are_refused():
    modes = get_args(MobileViTOptions.fields()["mode"].annotation)
    foreign = [mode for mode in modes if mode not in VARIANTS]
    assert len(foreign) == 6
    for mode in foreign:
        with pytest.raises(
            UserError, match=f"{mode} is a network of mobilevit_v3; the modes of mobilevit"
        ):
            cvnets.create_model("mobilevit", mode=mode)


def test_kernel_size_and_missing_fusion():
    network = cvnets.create_model(
        "mobilevit_xx_small", conv_kernel_size=5, no_fuse_local_global_features=True
    )
    state = network.state_dict()
    assert state["layer_3.1.local_rep.conv_3x3.block.conv.weight"].shape[2:] == (5, 5)
    assert not [key for key in state if "fusion" in key]
    assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    joined = cvnets.create_model("mobilevit_xx_small", conv_kernel_size=5).state_dict()
    assert joined["layer_3.1.fusion.block.conv.weight"].shape == (48, 96, 5, 5)
    with pytest.raises(UserError, match="conv_kernel_size must be odd, 4 is even"):
        cvnets.create_model("mobilevit", conv_kernel_size=4)


def test_dropouts_stand_where_the_names_say():
    network = cvnets.create_model(
        "mobilevit_xx_small", attn_dropout=0.1, ffn_dropout=0.2, dropout=0.3, classifier_dropout=0.4
    )
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    for layer, depth in ((3, 2), (4, 4), (5, 3)):
        for index in range(depth):
            block = f"layer_{layer}.1.global_rep.{index}"
            assert rates.pop(f"{block}.pre_norm_mha.2") == 0.3
            assert rates.pop(f"{block}.pre_norm_ffn.3") == 0.2
            assert rates.pop(f"{block}.pre_norm_ffn.5") == 0.3
    assert rates == {"classifier.dropout": 0.4}
    assert {m.dropout for m in network.modules() if isinstance(m, SelfAttention)} == {0.1}
    names = [
        name for name, _ in cvnets.create_model("mobilevit_xx_small").classifier.named_children()
    ]
    assert names == ["global_pool", "fc"]


# --- sizes and layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (70, 40)])
def test_any_image_size(xx_small, size):
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = xx_small.features(images)
        assert xx_small(images).shape == (2, 1000)
    for level, stride in xx_small.strides.items():
        rounded_up = tuple(-(-side // stride) for side in size)
        assert maps[level].shape == (2, xx_small.channels[level], *rounded_up)


def test_as_many_tokens_as_channels(reference):
    """192x192 gives layer_3 of small 144 tokens of width 144: the norm must take the right axis."""
    network = reference.fill(cvnets.create_model("mobilevit_small"))
    block = network.layer_3[1]
    tokens = torch.randn(4, 144, 144, dtype=torch.float64)
    order = torch.randperm(144)
    seen = []
    hook = block.global_rep.register_forward_hook(lambda *call: seen.append(call[2].shape))
    with torch.no_grad():
        result = block.global_rep(tokens)
        torch.testing.assert_close(block.global_rep(tokens[:, order]), result[:, order])
        last = block.global_rep[-1]
        plain = (result - last.bias) / last.weight
        torch.testing.assert_close(plain.mean(-1), torch.zeros(4, 144, dtype=torch.float64))
        seen.clear()
        assert network(reference.images([1, 3, 192, 192])).isfinite().all()
    hook.remove()
    assert seen == [(4, 144, 144)]


def test_memory_layout_does_not_matter(xx_small, reference):
    images = reference.images([2, 3, 64, 90])
    with torch.no_grad():
        expected = xx_small(images)
        found = xx_small(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
