"""EfficientNet against torchvision and hand-made cases."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models
from torchvision.ops import StochasticDepth

import cvnets
from cvnets.layers.style import LayerStyle

# --- torchvision ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["b0", "b1", "b2"])
def test_logits_as_in_the_paper_equal_those_of_torchvision(reference, mode):
    network = cvnets.create_model(f"efficientnet_{mode}", paper_squeeze_width=True)
    peer = getattr(torchvision_models, f"efficientnet_{mode}")()
    peer.double().eval()
    values = reference.fill(network).state_dict().values()
    peer.load_state_dict(dict(zip(peer.state_dict(), values, strict=True)))
    for size in ((64, 96), (75, 61)):
        images = reference.images([2, 3, *size])
        with torch.no_grad():
            expected = peer(images)
            assert (network(images) - expected).abs().max() < 1e-10 * expected.std()


@pytest.mark.parametrize("mode", ["b3", "b4", "b5", "b6", "b7"])
def test_shapes_as_in_the_paper_are_those_of_torchvision(mode):
    with torch.device("meta"):
        network = cvnets.create_model(f"efficientnet_{mode}", paper_squeeze_width=True)
        peer = getattr(torchvision_models, f"efficientnet_{mode}")()
    own = [value.shape for value in network.state_dict().values()]
    assert own == [value.shape for value in peer.state_dict().values()]
    assert _convolutions(network) == _convolutions(peer)


def _convolutions(network: nn.Module) -> list[tuple]:
    """What the shapes of the weights do not tell."""
    return [
        (m.stride, m.padding, m.dilation, m.groups)
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]


# --- options -------------------------------------------------------------------------------------


def test_the_probability_of_dropping_a_block_grows_linearly():
    """By hand: 16 blocks, nine of them with a residual connection."""
    with torch.device("meta"):
        network = cvnets.create_model("efficientnet_b0", stochastic_depth_prob=0.15)
        plain = cvnets.create_model("efficientnet_b0")
    rates = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    residual = [2, 4, 6, 7, 9, 10, 12, 13, 14]
    assert rates == pytest.approx([0.01 * block for block in residual])
    assert not [m for m in plain.modules() if isinstance(m, StochasticDepth)]
    assert list(network.state_dict()) == list(plain.state_dict())


def test_swish_and_sigmoid_whatever_the_style():
    kinds = nn.ReLU | nn.SiLU | nn.Sigmoid | nn.Hardsigmoid
    for style in (None, LayerStyle()):
        with torch.device("meta"):
            network = cvnets.create_model("efficientnet_b0", style=style)
        found = {type(module) for module in network.modules() if isinstance(module, kinds)}
        assert found == {nn.SiLU, nn.Sigmoid}


def test_dropout_in_front_of_the_last_layer():
    with torch.device("meta"):
        network = cvnets.create_model("efficientnet_b0", classifier_dropout=0.2)
        plain = cvnets.create_model("efficientnet_b0")
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    assert rates == {"classifier.classifier_dropout": 0.2}
    assert not [m for m in plain.modules() if isinstance(m, nn.Dropout)]


# --- sizes and dilation --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (70, 40)])
def test_any_image_size(size):
    with torch.device("meta"):
        network = cvnets.create_model("efficientnet_b0").eval()
        maps = network.features(torch.rand(2, 3, *size))
        assert network(torch.rand(2, 3, *size)).shape == (2, 1000)
    for level, stride in network.strides.items():
        assert maps[level].shape[2:] == tuple(-(-side // stride) for side in size)


def test_dilation_keeps_the_pixels_and_adds_those_between(reference):
    """Every second (fourth) pixel of a dilated map is the map of the plain network.

    Squeeze and excitation is taken out: it averages over the pixels.
    """
    plain = reference.fill(cvnets.create_model("efficientnet_b0"))
    dilated = reference.fill(cvnets.create_model("efficientnet_b0", output_stride=8))
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
