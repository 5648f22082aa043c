"""ResNet against torchvision, timm, and hand-made cases."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models
from torchvision.ops import StochasticDepth

import cvnets
from config.errors import UserError
from cvnets.layers.activation import ActivationOptions
from cvnets.layers.style import LayerStyle
from cvnets.modules.residual_block import ResidualBlock

TRUNK = ["layer_2", "layer_3", "layer_4", "layer_5"]


def trunk(network: nn.Module, names: list[str]) -> nn.Module:
    return nn.Sequential(*(getattr(network, name) for name in names))


def assert_same_trunk(network: nn.Module, peer: nn.Module, reference, names=TRUNK) -> None:
    """The stages behind the stem, which differs, give the same maps for the same input."""
    own = trunk(reference.fill(network), names)
    theirs = trunk(peer, [f"layer{int(name[-1]) - 1}" for name in names])
    theirs.double().eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.state_dict().values(), strict=True)))
    for size in ((16, 12), (19, 21)):
        maps = reference.images([2, 64, *size])
        with torch.no_grad():
            expected = theirs(maps)
            assert (own(maps) - expected).abs().max() < 1e-10 * expected.std()


# --- torchvision and timm ------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_stages_equal_those_of_torchvision(reference, depth):
    peer = getattr(torchvision_models, f"resnet{depth}")()
    assert_same_trunk(cvnets.create_model(f"resnet{depth}"), peer, reference)


def test_dilated_stages_equal_those_of_torchvision(reference):
    peer = torchvision_models.resnet50(replace_stride_with_dilation=[False, True, True])
    network = cvnets.create_model("resnet50", output_stride=8)
    assert_same_trunk(network, peer, reference)
    assert list(network.strides.values()) == [4, 4, 8, 8, 8, 8]


def test_squeeze_and_excitation_equals_that_of_timm(reference):
    timm = pytest.importorskip("timm")
    network = cvnets.create_model("resnet50", se_resnet=True)
    assert_same_trunk(network, timm.create_model("seresnet50"), reference)


def test_dilated_basic_blocks():
    """By hand, for torchvision has none: the first block works with the dilation from before."""
    with torch.device("meta"):
        network = cvnets.create_model("resnet18", output_stride=8)
    dilations = {
        stage: [m.dilation[0] for m in getattr(network, stage).modules() if _is_3x3(m)]
        for stage in TRUNK
    }
    assert dilations == {
        "layer_2": [1, 1, 1, 1], "layer_3": [1, 1, 1, 1],
        "layer_4": [1, 1, 2, 2], "layer_5": [2, 2, 4, 4],
    }  # fmt: skip
    for stage in TRUNK[1:]:
        shortcut = getattr(network, stage).block_0.down_sample.block.conv
        assert shortcut.stride == ((2, 2) if stage == "layer_3" else (1, 1))
    assert list(network.state_dict()) == list(cvnets.create_model("resnet18").state_dict())


def _is_3x3(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)


# --- options -------------------------------------------------------------------------------------


def test_squeeze_width_is_a_sixteenth():
    with torch.device("meta"):
        state = cvnets.create_model("resnet18", se_resnet=True).state_dict()
    squeezed = [v.shape[0] for k, v in state.items() if k.endswith("fc1.block.conv.weight")]
    assert squeezed == [4, 4, 8, 8, 16, 16, 32, 32]
    assert state["layer_2.block_0.block.se.se_layer.fc1.block.conv.weight"].shape == (4, 64, 1, 1)


def test_the_probability_of_dropping_a_block_grows_linearly():
    with torch.device("meta"):
        network = cvnets.create_model("resnet18", stochastic_depth_prob=0.14)
    rates = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14])
    assert isinstance(network.layer_2.block_0.stochastic_depth, nn.Identity)


def test_a_dropped_block_is_its_shortcut():
    """Image by image; a kept branch counts twice at a rate of one half."""
    torch.manual_seed(0)
    block = ResidualBlock(4, 4, drop_rate=0.5, style=LayerStyle()).double()
    block.block.eval()  # the same norm for all images
    maps = torch.rand(64, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        found, branch = block(maps), block.block(maps)
    dropped = torch.tensor([torch.equal(a, b) for a, b in zip(found, maps, strict=True)])
    assert 16 < dropped.sum() < 48
    torch.testing.assert_close(found[~dropped], (maps + 2 * branch).relu()[~dropped])
    block.eval()
    torch.testing.assert_close(block(maps), (maps + branch).relu())


def test_dropouts_stand_at_the_ends_of_branches_and_before_the_last_layer():
    with torch.device("meta"):
        network = cvnets.create_model("resnet50", dropout=0.3, classifier_dropout=0.2)
        plain = cvnets.create_model("resnet50")
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
    assert rates.pop("classifier.classifier_dropout") == 0.2
    assert len(rates) == 3 + 4 + 6 + 3
    assert set(rates.values()) == {0.3}
    for stage in TRUNK:
        for block in getattr(network, stage):
            assert isinstance(block.block[-1], nn.Dropout)
    assert not [m for m in plain.modules() if isinstance(m, nn.Dropout)]
    assert list(network.state_dict()) == list(plain.state_dict())


def test_activations_in_place_give_the_same_gradients():
    """The official recipe has them."""

    def gradients(inplace):
        torch.manual_seed(0)
        style = LayerStyle(activations=ActivationOptions(name="relu", inplace=inplace))
        network = cvnets.create_model("resnet18", se_resnet=True, style=style).double()
        network(images).square().sum().backward()
        return [parameter.grad for parameter in network.parameters()]

    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    assert all(map(torch.equal, gradients(False), gradients(True)))


def test_an_unknown_depth_is_refused():
    with pytest.raises(UserError, match="resnet: depth: Input should be 18, 34, 50 or 101, not 42"):
        cvnets.create_model("resnet", depth=42)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("size", [(33, 47), (1, 1), (70, 40)])
def test_any_image_size(name, size):
    with torch.device("meta"):
        network = cvnets.create_model(name).eval()
        maps = network.features(torch.rand(2, 3, *size))
        assert network(torch.rand(2, 3, *size)).shape == (2, 1000)
    for level, stride in network.strides.items():
        assert maps[level].shape[2:] == tuple(-(-side // stride) for side in size)
