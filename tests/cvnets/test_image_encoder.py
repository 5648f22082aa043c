"""The contract of every backbone: levels, cutting, strides, gradient checkpointing."""

from __future__ import annotations

import copy

import pytest
import torch

import cvnets
from config.errors import UserError
from cvnets.kinds import CLASSIFIERS
from cvnets.models import encoder
from cvnets.models.classification import VARIANT_NAMES
from cvnets.models.strides import plan_strides

# The smallest network of every kind of block: these run, of the others only the shapes are checked.
SMALLEST = [
    "mobilevit_xx_small", "mobilevit_v2_0.5", "mobilevit_v3_xx_small", "mobilevit_v3_0.5",
    "mobilenetv1_0.25", "mobilenetv2_0.25", "mobilenetv3_small", "resnet18", "resnet50",
    "efficientnet_b0", "vit_tiny",
]  # fmt: skip
OUTPUT_STRIDES = [(name, stride) for name in SMALLEST for stride in (8, 16, 32)]
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_every_family_is_among_the_smallest():
    families = {VARIANT_NAMES[name][0] for name in SMALLEST}
    assert families == {name for name in CLASSIFIERS.names() if "*" not in name}


@pytest.mark.parametrize(
    ("name", "output_stride"), [*((name, None) for name in VARIANT_NAMES), *OUTPUT_STRIDES]
)
def test_maps_have_the_channels_and_strides_stated(name, output_stride):
    with torch.device("meta"):
        network = cvnets.create_model(name, output_stride=output_stride, n_classes=7)
        maps = network.features(torch.rand(2, 3, 128, 64))
        logits = network(torch.rand(2, 3, 128, 64))
    assert list(maps) == list(network.channels) == list(network.strides)
    assert {"l2", "l3", "l4", "l5"} <= maps.keys()
    for level, value in maps.items():
        stride = network.strides[level]
        assert value.shape == (2, network.channels[level], 128 // stride, 64 // stride)
    assert network.strides["l5"] == (output_stride or 32)
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("levels", [["l2"], ["l3", "l4", "l5"], ["l2", "l5_exp"]])
def test_every_parameter_of_a_backbone_is_used(name, levels):
    backbone = cvnets.create_model(name).as_backbone(levels)
    maps = backbone.features(IMAGES)
    assert list(maps) == list(backbone.channels) == list(backbone.strides) == levels
    torch.stack([value.square().sum() for value in maps.values()]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", SMALLEST)
def test_start_values_carry_signal_and_gradient(name):
    """Neither dies out nor explodes on the way through a fresh network in training."""
    network = cvnets.create_model(name, n_classes=10)
    logits = network(IMAGES)
    logits.square().mean().backward()
    assert 1e-3 < float(logits.detach().std()) < 30
    stem = next(value for value in network.parameters() if value.ndim == 4)
    assert 1e-7 < float(stem.grad.std()) < 1e3


def test_a_backbone_is_the_network_cut_short():
    network = cvnets.create_model("mobilevit_xx_small").eval()
    with torch.no_grad():
        whole = network.features(IMAGES)
    names = list(network.state_dict())
    backbone = network.as_backbone(["l4", "l3"])
    with torch.no_grad():
        cut = backbone.features(IMAGES)
    assert backbone is network
    assert list(cut) == ["l3", "l4"]
    assert all(torch.equal(cut[level], whole[level]) for level in cut)
    kept = ("conv_1.", "layer_1.", "layer_2.", "layer_3.", "layer_4.")
    assert list(network.state_dict()) == [name for name in names if name.startswith(kept)]
    with pytest.raises(RuntimeError, match=r"cut by as_backbone.*use features"):
        network(IMAGES)


def test_only_the_stages_asked_for_run():
    network = cvnets.create_model("mobilevit_xx_small").eval()
    ran = []
    for name in ("layer_3", "layer_4", "classifier"):
        getattr(network, name).register_forward_hook(lambda *call, name=name: ran.append(name))
    assert list(network.features(IMAGES, levels=["l3", "l1"])) == ["l1", "l3"]
    assert ran == ["layer_3"]


def test_unknown_levels_are_refused():
    network = cvnets.create_model("mobilevit_xx_small")
    with pytest.raises(ValueError, match=r"MobileViT has the levels l1, .*; asked for: l6"):
        network.features(IMAGES, levels=["l5", "l6"])
    with pytest.raises(ValueError, match="asked for: none"):
        network.as_backbone([])
    network.as_backbone(["l2", "l4"])
    with pytest.raises(ValueError, match="has the levels l2, l4; asked for: l3"):
        network.features(IMAGES, levels=["l3"])


def test_strides_become_dilation():
    """By hand: the stage that keeps its resolution enters with the dilation from before."""
    plain = plan_strides((2, 1, 2, 2, 2, 2), None)
    assert [tuple(shape) for shape in plain] == [
        (2, 1, 1, 2), (1, 1, 1, 2), (2, 1, 1, 4), (2, 1, 1, 8), (2, 1, 1, 16), (2, 1, 1, 32),
    ]  # fmt: skip
    assert plan_strides((2, 1, 2, 2, 2, 2), 32) == plain
    assert [tuple(s) for s in plan_strides((2, 1, 2, 2, 2, 2), 16)[4:]] == [
        (2, 1, 1, 16),
        (1, 1, 2, 16),
    ]
    assert [tuple(s) for s in plan_strides((2, 1, 2, 2, 2, 2), 8)[3:]] == [
        (2, 1, 1, 8), (1, 1, 2, 8), (1, 2, 4, 8),
    ]  # fmt: skip
    with pytest.raises(
        UserError, match="output_stride: 12 is not possible; allowed: 8, 16, 32 or null"
    ):
        cvnets.create_model("mobilevit_xx_small", output_stride=12)


@pytest.mark.parametrize("name", SMALLEST)
def test_gradient_checkpointing_changes_nothing_but_memory(name):
    plain = cvnets.create_model(name, n_classes=5, classifier_dropout=0.1).double()
    frugal = copy.deepcopy(plain)
    frugal.gradient_checkpointing = True
    for network in (plain, frugal):
        torch.manual_seed(3)
        network(IMAGES.double()).square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-8, atol=1e-10, msg=key)
    for (key, a), b in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.equal(a, b), key


def test_gradient_checkpointing_keeps_dropout_and_runs_stages_twice():
    plain = cvnets.create_model(
        "mobilevit_xx_small", n_classes=5, dropout=0.1, attn_dropout=0.1, classifier_dropout=0.1
    ).double()
    frugal = copy.deepcopy(plain)
    frugal.gradient_checkpointing = True
    calls = {id(plain): 0, id(frugal): 0}

    def count(owner):
        owner.layer_3.register_forward_pre_hook(
            lambda *call: calls.update({id(owner): calls[id(owner)] + 1})
        )

    for network in (plain, frugal):
        count(network)
        torch.manual_seed(3)
        network(IMAGES.double()).square().sum().backward()
    assert (calls[id(plain)], calls[id(frugal)]) == (1, 2)
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-12, msg=key)
    for (key, a), b in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.equal(a, b), key
    assert frugal.conv_1.block.norm.num_batches_tracked == 1


def test_nothing_is_recomputed_without_gradients(monkeypatch):
    calls = []
    monkeypatch.setattr(
        encoder, "run_recomputed", lambda stage, maps: calls.append(stage) or stage(maps)
    )
    network = cvnets.create_model("mobilevit_xx_small").eval()
    network.gradient_checkpointing = True
    with torch.no_grad():
        network(IMAGES)
    assert calls == []
    network(IMAGES)
    assert len(calls) == 7
