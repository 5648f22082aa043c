"""MobileViTv3 in both families: blocks computed once more in plain terms, options, sizes, layouts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cvnets
from config.errors import UserError
from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification.mobilevit import MobileViT, MobileViTOptions
from cvnets.models.classification.mobilevit_v2 import MobileViTv2
from cvnets.models.classification.mobilevit_v3 import MobileViTv3Options

ON_V1, ON_V2 = "mobilevit_v3_xx_small", "mobilevit_v3_0.5"


@pytest.fixture(scope="module", params=[ON_V1, ON_V2])
def network(reference, request):
    return reference.fill(cvnets.create_model(request.param))


def test_fast_modes_are_shallower_in_layer_4_only():
    def depths(name):
        network = cvnets.create_model(name)
        return [len(network.get_submodule(f"layer_{n}.1.global_rep")) - 1 for n in (3, 4, 5)]

    with torch.device("meta"):
        assert depths("mobilevit_v3_small") == [2, 4, 3]
        assert depths("mobilevit_v3_small_fast") == [2, 2, 3]


# --- blocks computed once more -------------------------------------------------------------------


class Plain:
    """The units of a block, computed from its state alone."""

    def __init__(self, block):
        self.state = block.state_dict()

    def conv(self, name, maps, **how):
        state = self.state
        weight, bias = state[f"{name}.block.conv.weight"], state.get(f"{name}.block.conv.bias")
        maps = F.conv2d(maps, weight, bias, **how)
        if f"{name}.block.norm.weight" not in state:
            return maps
        mean, var, scale, shift = (
            state[f"{name}.block.norm.{key}"].view(-1, 1, 1)
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (var + 1e-5).sqrt() * scale + shift

    def norm(self, name, tokens):
        """Over channels (axis 1) and all tokens of an image."""
        centred = tokens - tokens.mean((1, 2), keepdim=True)
        scale, shift = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        normed = centred / (centred.square().mean((1, 2), keepdim=True) + 1e-5).sqrt()
        return normed * scale.view(-1, 1) + shift.view(-1, 1)


def torch_transformer(block, index, dim):
    """torch's own layer with the weights of `global_rep.index`."""
    own = block.global_rep[index].state_dict()
    names = {
        "pre_norm_mha.0": "norm1", "pre_norm_mha.1.qkv_proj.": "self_attn.in_proj_",
        "pre_norm_mha.1.out_proj": "self_attn.out_proj", "pre_norm_ffn.0": "norm2",
        "pre_norm_ffn.1": "linear1", "pre_norm_ffn.4": "linear2",
    }  # fmt: skip
    layer = nn.TransformerEncoderLayer(
        dim, 4, 2 * dim, activation=F.silu, batch_first=True, norm_first=True, dtype=torch.float64
    )
    state = {}
    for key, value in own.items():
        (ours,) = (name for name in names if key.startswith(name))
        state[key.replace(ours, names[ours])] = value
    layer.load_state_dict(state)
    return layer.eval()


@pytest.mark.parametrize(
    ("name", "layer", "channels", "dim", "depth"),
    [("x_small", 4, 160, 120, 4), ("small", 5, 320, 240, 3), ("small_fast", 4, 256, 192, 2)],
)
def test_block_on_v1_in_plain_terms(reference, name, layer, channels, dim, depth):
    network = reference.fill(cvnets.create_model(f"mobilevit_v3_{name}"))
    block = network.get_submodule(f"layer_{layer}.1")
    plain = Plain(block)
    maps = reference.images([2, channels, 6, 4])
    with torch.no_grad():
        local = plain.conv("local_rep.conv_3x3", maps, padding=1, groups=channels)
        local = plain.conv("local_rep.conv_1x1", F.silu(local))
        result = torch.empty_like(local)
        for i in range(2):
            for j in range(2):
                tokens = local[:, :, i::2, j::2].flatten(2).transpose(1, 2)
                for index in range(depth):
                    tokens = torch_transformer(block, index, dim)(tokens)
                last = plain.state[f"global_rep.{depth}.weight"]
                tokens = F.layer_norm(tokens, (dim,), last, plain.state[f"global_rep.{depth}.bias"])
                result[:, :, i::2, j::2] = tokens.transpose(1, 2).unflatten(2, (3, 2))
        result = F.silu(plain.conv("conv_proj", result))
        expected = maps + F.silu(plain.conv("fusion", torch.cat((local, result), 1)))
        torch.testing.assert_close(block(maps), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("width", [0.75, 1.0, 2.0])
def test_block_on_v2_in_plain_terms(reference, width):
    """Tokens are taken in the order of the map: only the four contexts know of patches."""
    network = cvnets.create_model(f"mobilevit_v3_{width}", output_stride=16)
    block = reference.fill(network).layer_5[1]
    plain, channels, dim = Plain(block), int(512 * width), int(256 * width)
    maps = reference.images([2, channels, 6, 4])
    y, x = torch.meshgrid(torch.arange(6), torch.arange(4), indexing="ij")
    places = (y % 2 * 2 + x % 2).flatten()
    with torch.no_grad():
        local = plain.conv("local_rep.0", maps, padding=2, dilation=2, groups=channels)
        local = plain.conv("local_rep.1", F.silu(local))
        tokens = local.flatten(2)
        for i in range(3):
            inner = plain.norm(f"global_rep.{i}.pre_norm_attn.0", tokens)[..., None]
            qkv = plain.conv(f"global_rep.{i}.pre_norm_attn.1.qkv_proj", inner)[..., 0]
            score, key, value = qkv[:, :1].exp(), qkv[:, 1 : 1 + dim], qkv[:, 1 + dim :].relu()
            for place in range(4):
                here = places == place
                share = score[..., here] / score[..., here].sum(2, keepdim=True)
                value[..., here] *= (share * key[..., here]).sum(2, keepdim=True)
            name = f"global_rep.{i}.pre_norm_attn.1.out_proj"
            tokens = tokens + plain.conv(name, value[..., None])[..., 0]
            inner = plain.norm(f"global_rep.{i}.pre_norm_ffn.0", tokens)[..., None]
            inner = F.silu(plain.conv(f"global_rep.{i}.pre_norm_ffn.1", inner))
            tokens = tokens + plain.conv(f"global_rep.{i}.pre_norm_ffn.3", inner)[..., 0]
        result = plain.norm("global_rep.3", tokens).unflatten(2, (6, 4))
        expected = maps + plain.conv("conv_proj", torch.cat((result, local), 1))
        torch.testing.assert_close(block(maps), expected, rtol=1e-10, atol=1e-10)


# --- two families under one name -----------------------------------------------------------------


def test_the_options_given_choose_the_family():
    def kind(**options):
        return cvnets.create_model("mobilevit_v3", **options)

    with torch.device("meta"):
        assert isinstance(kind(mode="x_small_v3_fast", dropout=0.1), MobileViT)
        assert isinstance(kind(width_multiplier=0.4, dropout=0.1), MobileViTv2)
        for options in ({}, {"dropout": 0.1}, {"mode": "small_v3", "width_multiplier": 1.0}):
            with pytest.raises(UserError, match=r"mobilevit_v3 is chosen by its options"):
                kind(**options)
    sections = CLASSIFIERS["mobilevit_v3"].sections
    assert sections == {"mit": MobileViTOptions, "mitv3": MobileViTv3Options}


def test_both_families_are_built_in_the_style_of_mobilevit():
    for name in (ON_V1, ON_V2):
        network = cvnets.create_model(name)
        acts = {type(m) for m in network.modules() if isinstance(m, nn.SiLU | nn.ReLU)}
        assert acts == {nn.SiLU}
        last = next(m for m in network.classifier.modules() if isinstance(m, nn.Linear))
        assert last.weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("mode", ["xx_small", "x_small", "small"])
def test_modes_of_version_1_are_refused(mode):
    with pytest.raises(
        UserError,
        match=f"{mode} is a network of mobilevit; the modes of mobilevit_v3 are xx_small_v3, .*",
    ):
        cvnets.create_model("mobilevit_v3", mode=mode)


def test_without_fusion_the_input_is_still_added(reference):
    network = cvnets.create_model(ON_V1, no_fuse_local_global_features=True, conv_kernel_size=5)
    block = reference.fill(network).layer_3[1]
    assert not [key for key in block.state_dict() if "fusion" in key]
    assert block.local_rep.conv_3x3.block.conv.weight.shape == (64, 1, 5, 5)
    maps = reference.images([1, 64, 4, 4])
    results = []
    block.conv_proj.register_forward_hook(lambda *call: results.append(call[2]))
    with torch.no_grad():
        assert torch.equal(block(maps), maps + results[0])


# --- sizes and layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1)])
def test_any_image_size(network, size):
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        maps = network.features(images)
        assert network(images).shape == (2, 1000)
    for level, stride in network.strides.items():
        sides = [-(-side // stride) for side in size]
        for side, found in zip(sides, maps[level].shape[2:], strict=True):
            assert found == side or (isinstance(network, MobileViTv2) and found == side + side % 2)


def test_memory_layout_does_not_matter(network, reference):
    images = reference.images([2, 3, 64, 90])
    with torch.no_grad():
        expected = network(images)
        found = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
