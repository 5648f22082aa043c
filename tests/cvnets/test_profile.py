"""The model card against the reference figures, torch's own counter, and networks counted by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

import cvnets
from cvnets.models.classification import VARIANT_NAMES
from cvnets.profile import on_meta, profile, profile_built

FIGURES = {
    path.stem: json.loads(path.read_text())
    for path in sorted(Path(__file__).parents[1].glob("reference/classification/*.json"))
}
AT_224 = [name for name, figures in FIGURES.items() if "official_profiler_224" in figures["macs"]]
FVCORE = [
    name
    for name, figures in FIGURES.items()
    if figures["macs"]["official_profiler_kind"].startswith("fvcore")
]
FIRST_OF_FAMILY = {registered: name for name, (registered, _) in reversed(VARIANT_NAMES.items())}


def card_of(name: str, size: tuple[int, int], **options):
    return profile_built(lambda: cvnets.create_model(name, **options), size)


# --- the official figures ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_totals_are_those_of_the_official_network(name):
    macs = FIGURES[name]["macs"]
    card = card_of(name, tuple(macs["input_shape"][2:]))
    assert card.parameters == FIGURES[name]["n_params"]
    assert card.multiply_accumulates == macs["torch_flop_counter_half"]


@pytest.mark.parametrize("name", AT_224)
def test_totals_at_another_size_are_those_of_the_official_network(name):
    expected = FIGURES[name]["macs"]["torch_flop_counter_half_224"]
    assert card_of(name, (224, 224)).multiply_accumulates == expected


@pytest.mark.parametrize("name", FVCORE)
def test_the_official_profiler_counts_norms_and_squeezes_in_addition(name):
    """What docs/model_zoo.md says of it: 2 per element of a batch norm, 5 of a layer norm, 1 squeezed."""
    extra = 0

    def weigh(weight):
        def count(module, inputs, output):
            nonlocal extra
            extra += weight * inputs[0].numel()

        return count

    with on_meta():
        network = cvnets.create_model(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(weigh(2))
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.register_forward_hook(weigh(5))
        elif type(module).__name__ == "SqueezeExcitation":
            module.register_forward_hook(weigh(1))
    macs = FIGURES[name]["macs"]
    card = profile(network, tuple(macs["input_shape"][2:]))
    assert card.multiply_accumulates + extra == macs["official_profiler"]


@pytest.mark.parametrize("name", FIRST_OF_FAMILY.values())
def test_stages_are_those_of_torchs_counter_and_add_up(name):
    with on_meta():
        network = cvnets.create_model(name).eval()
        images = torch.rand(1, 3, 64, 96)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    card = profile(network, (64, 96))
    assert card.multiply_accumulates == counter.get_total_flops() // 2
    theirs = counter.get_flop_counts()
    stages = {stage.name: stage for stage in card.stages}
    for stage in stages.values():
        scope = f"{type(network).__name__}.{stage.name}"
        if scope in theirs:
            assert stage.multiply_accumulates == sum(theirs[scope].values()) // 2, stage.name
    for column in ("parameters", "multiply_accumulates", "activations"):
        column_values = [getattr(stage, column) for stage in stages.values()]
        assert sum(column_values) == getattr(card, column)
        assert min(column_values) >= 0
    assert stages["classifier"].output == (1000,)


# --- networks of torchvision ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large", "vit_b_16", "swin_t"])
def test_totals_are_those_that_torchvision_publishes(name):
    published = models.get_model_weights(name).DEFAULT.meta
    card = profile_built(lambda: models.get_model(name, weights=None), (224, 224))
    assert card.parameters == published["num_params"]
    assert round(card.multiply_accumulates / 1e9, 3) == published["_ops"]


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet50", 11.1), ("resnet101", 16.2), ("efficientnet_b0", 6.7)]
)
def test_activations_are_those_of_the_paper(name, millions):
    """Radosavovic et al., "Designing Network Design Spaces", 2020, its comparisons; at 224 x 224."""
    card = profile_built(lambda: models.get_model(name, weights=None), (224, 224))
    assert round(card.activations / 1e6, 1) == millions


# --- the meta device -----------------------------------------------------------------------------


def test_parameters_by_stage_of_mobilevit_are_those_of_its_stages():
    network = cvnets.create_model("mobilevit_xx_small")
    card = card_of("mobilevit_xx_small", (64, 64))
    for stage in card.stages:
        child = getattr(network, stage.name)
        assert stage.parameters == sum(p.numel() for p in child.parameters())
    maps = network.eval().features(torch.rand(1, 3, 64, 64))
    shapes = {stage.name: stage.output for stage in card.stages}
    assert shapes["layer_4"] == tuple(maps["l4"].shape[1:])
    assert shapes["conv_1x1_exp"] == tuple(maps["l5_exp"].shape[1:])


def test_counts_are_the_same_with_and_without_values():
    network = cvnets.create_model("mobilevit_xx_small", n_classes=10)
    assert profile(network, (64, 96)) == card_of("mobilevit_xx_small", (64, 96), n_classes=10)


def test_networks_larger_than_any_memory_are_counted():
    card = profile_built(
        lambda: nn.Sequential(nn.Conv2d(3, 10**6, 1), nn.Conv2d(10**6, 10**6, 1)), (10, 10)
    )
    assert card.parameters == 4 * 10**6 + 10**12 + 10**6
    assert card.multiply_accumulates == 100 * (3 * 10**6 + 10**12)


def test_networks_that_look_at_values_are_counted_on_the_cpu():
    class Curious(nn.Conv2d):
        def forward(self, images):
            return super().forward(images) if images.sum().item() == 0 else images

    assert profile_built(lambda: Curious(3, 2, 1), (4, 4)).multiply_accumulates == 3 * 2 * 16
    widths = profile_built(lambda: nn.Conv2d(3, int(torch.tensor([5]).item()), 1), (4, 4))
    assert widths.activations == 5 * 16


def test_errors_of_the_network_are_those_of_a_plain_call():
    with pytest.raises(
        RuntimeError, match=re.escape("expected input[1, 3, 8, 8] to have 4 channels")
    ):
        profile_built(lambda: nn.Conv2d(4, 4, 1), (8, 8))


# --- the network afterwards ----------------------------------------------------------------------


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    profile(network, (4, 4))
    with pytest.raises(RuntimeError):
        profile(network.append(nn.Conv2d(5, 4, 1)), (4, 4))
    assert [module.training for module in network] == [True, False, True, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


def test_the_type_of_the_weights_is_respected():
    assert profile(nn.Conv2d(3, 4, 1).double(), (2, 2)).multiply_accumulates == 48


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_an_image_has_pixels(size):
    with pytest.raises(ValueError, match=f"an image of {size[0]}x{size[1]} has no pixels"):
        profile(nn.Conv2d(3, 4, 1), size)
