"""MobileViT against the official figures, timm, and hand-made cases."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cvnets
from config.errors import UserError
from cvnets.layers.attention import SelfAttention
from cvnets.models.classification.mobilevit import VARIANTS, MobileViTOptions

XX_SMALL = "classification/mobilevit_xx_small"


@pytest.fixture(scope="module")
def xx_small(reference):
    return reference.fill(cvnets.create_model("mobilevit_xx_small"))


# --- the official figures ------------------------------------------------------------------------


def test_names_shapes_and_order_are_the_official_ones(reference):
    network = cvnets.create_model("mobilevit_xx_small")
    own = [(key, list(value.shape)) for key, value in network.state_dict().items()]
    assert own == list(reference.figures(XX_SMALL)["state"].items())


@pytest.mark.parametrize("size", ["256x256", "224x192", "250x250", "232x168"])
def test_outputs_are_the_official_ones(reference, xx_small, size):
    figures = reference.figures(XX_SMALL)
    cases = {
        "x".join(map(str, c["input_shape"][2:])): c for c in (figures, *figures["extra_inputs"])
    }
    outputs, images = cases[size]["outputs"], reference.images(cases[size]["input_shape"])
    with torch.no_grad():
        found = {f"out_{level}": maps for level, maps in xx_small.features(images).items()}
        found["logits"] = xx_small(images)
    assert set(found) == set(outputs)
    assert {k: v for k, v in found.items() if reference.error(outputs[k], v) > 1} == {}


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_encoder_gives_the_official_maps(reference, stride):
    figures = reference.figures(f"segmentation/deeplabv3_mobilevit_xx_small_os{stride}")
    network = cvnets.create_model("mobilevit_xx_small", output_stride=stride)
    levels = [key.removeprefix("encoder.out_") for key in figures["outputs"] if "out_l" in key]
    reference.fill(network.as_backbone(levels), prefix="encoder.")
    official = [key for key in figures["state"] if key.startswith("encoder.")]
    assert [f"encoder.{key}" for key in network.state_dict()] == official
    for case in (figures, *figures["extra_inputs"]):
        with torch.no_grad():
            found = network.features(reference.images(case["input_shape"]))
        for level, maps in found.items():
            assert reference.error(case["outputs"][f"encoder.out_{level}"], maps) <= 1, level


@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    [
        ("mobilevit_xx_small", 1_272_024, 311),
        ("mobilevit_x_small", 2_317_848, 311),
        ("mobilevit_small", 5_578_632, 311),
    ],
)
def test_sizes_are_the_official_ones(name, parameters, entries):
    network = cvnets.create_model(name)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == entries


def test_multiply_accumulates_are_the_official_ones(reference):
    with torch.device("meta"):
        network = cvnets.create_model("mobilevit_xx_small").eval()
        images = torch.rand(1, 3, 256, 256)
    with FlopCounterMode(display=False) as counter:
        network(images)
    assert (
        counter.get_total_flops() // 2
        == reference.figures(XX_SMALL)["macs"]["torch_flop_counter_half"]
    )


# --- timm ----------------------------------------------------------------------------------------

# Ordered (pattern, replacement): our names -> timm's; see the reference figures' correspondence.json.
TO_TIMM = [
    (r"^classifier\.fc", "head.fc"),
    (r"^conv_1\.", "stem."),
    (r"^conv_1x1_exp\.", "final_conv."),
    (r"^layer_(\d)", lambda found: f"stages.{int(found[1]) - 1}"),
    (r"local_rep\.conv_1x1\.block\.conv", "conv_1x1"),
    (r"local_rep\.conv_3x3", "conv_kxk"),
    (r"fusion", "conv_fusion"),
    (r"\.block\.exp_1x1", ".conv1_1x1"),
    (r"\.block\.conv_3x3", ".conv2_kxk"),
    (r"\.block\.red_1x1", ".conv3_1x1"),
    (r"\bblock\.conv\b", "conv"),
    (r"\bblock\.norm\b", "bn"),
    (r"global_rep\.(\d+)\.pre_norm_mha\.0", r"transformer.\1.norm1"),
    (r"global_rep\.(\d+)\.pre_norm_mha\.1\.qkv_proj", r"transformer.\1.attn.qkv"),
    (r"global_rep\.(\d+)\.pre_norm_mha\.1\.out_proj", r"transformer.\1.attn.proj"),
    (r"global_rep\.(\d+)\.pre_norm_ffn\.0", r"transformer.\1.norm2"),
    (r"global_rep\.(\d+)\.pre_norm_ffn\.1", r"transformer.\1.mlp.fc1"),
    (r"global_rep\.(\d+)\.pre_norm_ffn\.4", r"transformer.\1.mlp.fc2"),
    (r"global_rep\.\d+", "norm"),
]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilevit_xx_small", "mobilevit_xxs"),
        ("mobilevit_x_small", "mobilevit_xs"),
        ("mobilevit_small", "mobilevit_s"),
    ],
)
def test_logits_equal_those_of_timm(reference, name, theirs):
    timm = pytest.importorskip("timm")
    network = reference.fill(cvnets.create_model(name))
    peer = timm.create_model(theirs).double().eval()
    state = {}
    for key, value in network.state_dict().items():
        for pattern, replacement in TO_TIMM:
            key = re.sub(pattern, replacement, key)
        state[key] = value
    peer.load_state_dict(state)
    for size in ((96, 64), (75, 90)):
        images = reference.images([2, 3, *size])
        with torch.no_grad():
            expected = peer(images)
            assert (network(images) - expected).abs().max() < 1e-10 * expected.std()


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
