"""MobileNet v1, v2, v3 against timm, torchvision, and hand-made cases."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

import cvnets
from config.errors import UserError
from cvnets.layers.conv import SeparableConv
from cvnets.layers.style import LayerStyle

PAPER_V3 = {"paper_kernels": True, "paper_squeeze_width": True}


def with_weights_of(network: nn.Module, peer: nn.Module) -> nn.Module:
    """`peer` with the weights of `network`, entry by entry (torch compares the shapes)."""
    peer.double().eval()
    values = network.state_dict().values()
    peer.load_state_dict(dict(zip(peer.state_dict(), values, strict=True)))
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    return peer


def assert_same_logits(network: nn.Module, peer: nn.Module, reference) -> None:
    with_weights_of(network, peer)
    for size in ((64, 96), (75, 61)):
        images = reference.images([2, 3, *size])
        with torch.no_grad():
            expected = peer(images)
            assert (network(images) - expected).abs().max() < 1e-10 * expected.std()


# --- widths --------------------------------------------------------------------------------------


def test_channels_of_narrow_networks():
    """By hand: multiples of 16 in v1 (of the product rounded up), of 8 in v2 and v3, none below 90 %."""
    with torch.device("meta"):
        v1 = cvnets.create_model("mobilenetv1", width_multiplier=0.277)
        v2 = cvnets.create_model("mobilenetv2", width_multiplier=0.3)
        v3 = cvnets.create_model("mobilenetv3", width_multiplier=0.3)
    assert v1.conv_1.block.conv.out_channels == 16
    assert list(v1.channels.values()) == [32, 48, 64, 144, 288, 288]
    assert v2.conv_1.block.conv.out_channels == 32
    assert list(v2.channels.values()) == [8, 8, 16, 32, 96, 1280]
    assert v3.conv_1.conv_3x3_bn.block.conv.out_channels == 16
    assert list(v3.channels.values()) == [8, 8, 16, 32, 48, 288]


# --- timm and torchvision ------------------------------------------------------------------------


def test_v1_as_in_the_paper_equals_timm(reference):
    timm = pytest.importorskip("timm")
    network = reference.fill(cvnets.create_model("mobilenetv1_1.0", paper_activations=True))
    peer = timm.create_model("mobilenetv1_100", act_layer=nn.ReLU)
    assert_same_logits(network, peer, reference)


@pytest.mark.parametrize(("width", "theirs"), [(0.5, "050"), (0.75, "075")])
def test_v2_equals_timm(reference, width, theirs):
    """Width 1.0: weights/test_dialects.py."""
    timm = pytest.importorskip("timm")
    network = reference.fill(cvnets.create_model("mobilenetv2", width_multiplier=width))
    peer = timm.create_model(f"mobilenetv2_{theirs}", fix_stem_head=True)
    assert_same_logits(network, peer, reference)


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0, 1.4])
def test_v2_as_in_the_paper_equals_torchvision(reference, width):
    network = cvnets.create_model("mobilenetv2", width_multiplier=width, paper_stem=True)
    peer = torchvision_models.mobilenet_v2(width_mult=width)
    assert_same_logits(reference.fill(network), peer, reference)


@pytest.mark.parametrize("mode", ["small", "large"])
def test_v3_as_in_the_paper_equals_torchvision(reference, mode):
    network = reference.fill(cvnets.create_model(f"mobilenetv3_{mode}", **PAPER_V3))
    peer = getattr(torchvision_models, f"mobilenet_v3_{mode}")()
    assert_same_logits(network, peer, reference)


# --- options -------------------------------------------------------------------------------------


def test_options_of_the_paper_change_what_they_say():
    def shapes(**options):
        with torch.device("meta"):
            state = cvnets.create_model("mobilenetv3_small", **options).state_dict()
        kernels = {
            v.shape[-1] for k, v in state.items() if k.endswith("conv_3x3.block.conv.weight")
        }
        squeezed = [v.shape[0] for k, v in state.items() if k.endswith("fc1.block.conv.weight")]
        return kernels, squeezed

    official, paper = [32, 32, 64, 64, 32, 40, 72, 144, 144], [8, 24, 64, 64, 32, 40, 72, 144, 144]
    assert shapes() == ({3}, official)
    assert shapes(paper_kernels=True) == ({3, 5}, official)
    assert shapes(paper_squeeze_width=True) == ({3}, paper)


@pytest.mark.parametrize(
    ("name", "given", "rate"),
    [
        ("mobilenetv1_0.25", None, 0.025),
        ("mobilenetv1_1.0", None, 0.1),
        ("mobilenetv1_1.0", 0.0, None),
        ("mobilenetv1_1.0", 0.3, 0.3),
        ("mobilenetv2_0.5", None, 0.1),
        ("mobilenetv2_1.0", None, 0.2),
        ("mobilenetv3_large", None, None),
        ("mobilenetv3_large", 0.2, 0.2),
    ],
)
def test_dropout_in_front_of_the_last_layer(name, given, rate):
    with torch.device("meta"):
        network = cvnets.create_model(name, classifier_dropout=given)
    *front, last = network.classifier
    rates = [module.p for module in front if isinstance(module, nn.Dropout)]
    assert rates == ([] if rate is None else [pytest.approx(rate)])
    assert isinstance(last, nn.Linear)
    assert rates == [m.p for m in network.modules() if isinstance(m, nn.Dropout)]


@pytest.mark.parametrize("name", ["mobilenetv1", "mobilenetv2"])
def test_wider_networks_have_no_more_dropout(name):
    with torch.device("meta"):
        wide, full = (cvnets.create_model(name, width_multiplier=w) for w in (2.0, 1.0))
    assert wide.classifier.classifier_dropout.p == full.classifier.classifier_dropout.p
    assert wide.channels["l5"] == 2 * full.channels["l5"]


def test_activations_of_the_style_or_of_the_paper():
    kinds = nn.ReLU | nn.ReLU6 | nn.Hardswish | nn.GELU

    def activations(name, **options):
        with torch.device("meta"):
            network = cvnets.create_model(name, **options)
        return {type(module) for module in network.modules() if isinstance(module, kinds)}

    gelu = LayerStyle().with_activation("gelu")
    assert activations("mobilenetv1_0.25") == {nn.ReLU}
    assert activations("mobilenetv2_0.25") == {nn.ReLU6}
    assert activations("mobilenetv1_0.25", style=gelu) == {nn.GELU}
    assert activations("mobilenetv2_0.25", style=gelu) == {nn.GELU}
    assert activations("mobilenetv3_small", style=gelu) == {nn.ReLU, nn.Hardswish}


def test_a_width_of_nothing_is_refused():
    with pytest.raises(UserError, match="width_multiplier: Input should be greater than 0, not 0"):
        cvnets.create_model("mobilenetv2", width_multiplier=0.0)


def test_separable_convolution_is_its_two_parts():
    style = LayerStyle()
    unit = SeparableConv(
        6, 4, 5, stride=2, dilation=3, norm=False, act=False, bias=True, style=style
    )
    assert [key for key in unit.state_dict() if "weight" in key or "bias" in key] == [
        "dw_conv.block.conv.weight", "dw_conv.block.norm.weight", "dw_conv.block.norm.bias",
        "pw_conv.block.conv.weight", "pw_conv.block.conv.bias",
    ]  # fmt: skip
    depthwise, pointwise = unit.eval().dw_conv.block.conv, unit.pw_conv.block.conv
    images = torch.randn(2, 6, 31, 20)
    with torch.no_grad():
        filtered = torch.stack(
            [
                nn.functional.conv2d(
                    images[:, c : c + 1], depthwise.weight[c : c + 1],
                    stride=2, dilation=3, padding=6,
                )[:, 0]
                for c in range(6)
            ], dim=1,
        ) / (1 + 1e-5) ** 0.5  # fmt: skip
        mixed = torch.einsum("oc,bchw->bohw", pointwise.weight[:, :, 0, 0], filtered)
        expected = mixed + pointwise.bias[:, None, None]
        torch.testing.assert_close(unit(images), expected, rtol=1e-4, atol=1e-5)


# --- sizes and dilation --------------------------------------------------------------------------


def test_strides_of_the_small_v3():
    network = cvnets.create_model("mobilenetv3_small")
    assert list(network.strides.values()) == [4, 8, 8, 16, 32, 32]
    dilated = cvnets.create_model("mobilenetv3_small", output_stride=16)
    assert list(dilated.strides.values()) == [4, 8, 8, 16, 16, 16]
    assert list(dilated.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("name", ["mobilenetv1_0.25", "mobilenetv2_0.25", "mobilenetv3_small"])
@pytest.mark.parametrize("size", [(33, 47), (1, 1), (70, 40)])
def test_any_image_size(name, size):
    with torch.device("meta"):
        network = cvnets.create_model(name).eval()
        maps = network.features(torch.rand(2, 3, *size))
        assert network(torch.rand(2, 3, *size)).shape == (2, 1000)
    for level, stride in network.strides.items():
        assert maps[level].shape[2:] == tuple(-(-side // stride) for side in size)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenetv1_0.25", {}),
        ("mobilenetv2_0.25", {}),
        ("mobilenetv3_small", {}),
        ("mobilenetv3_large", PAPER_V3),
    ],
)
def test_dilation_keeps_the_pixels_and_adds_those_between(reference, name, options):
    """Every second (fourth) pixel of a dilated map is the map of the plain network.

    Squeeze and excitation is taken out: it averages over the pixels.
    """
    plain = reference.fill(cvnets.create_model(name, **options))
    dilated = reference.fill(cvnets.create_model(name, output_stride=8, **options))
    for network in (plain, dilated):
        for module in network.modules():
            if isinstance(module, nn.Sequential) and "se" in module._modules:
                module.se = nn.Identity()
    images = reference.images([1, 3, 75, 90])
    with torch.no_grad():
        expected, found = plain.features(images), dilated.features(images)
    for level, maps in expected.items():
        step = plain.strides[level] // dilated.strides[level]
        assert (found[level][..., ::step, ::step] - maps).abs().max() < 1e-10 * maps.std()
    assert dilated.strides["l4"] == dilated.strides["l5"] == 8
