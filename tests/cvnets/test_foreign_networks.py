"""The networks of timm and torchvision as classifiers and as backbones."""

from __future__ import annotations

import copy
import importlib.util
import logging
import sys

import pytest
import torch
import torchvision
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

import cvnets
from config.errors import UserError
from cvnets.models.classification import timm_networks, torchvision_networks
from cvnets.models.foreign import InputSizes, Tap, by_level, input_sizes
from cvnets.models.pyramid import resample

timm = pytest.importorskip("timm")

LEVELS = ["l3", "l4", "l5"]
CLASSES = 7
SQUARE = (224, 224)

# The networks of the papers' tables: name, image size, and what gives the maps in the library's
# own network: module -> level, at the level's own stride.
NETWORKS = [
    ("timm/densenet169", (64, 96), {
        "features.denseblock2": "l3", "features.denseblock3": "l4", "features.norm5": "l5"}),
    ("timm/mnasnet_100", (64, 96), {"blocks.2": "l3", "blocks.4": "l4", "blocks.6": "l5"}),
    ("timm/mixnet_s", (64, 96), {"blocks.2": "l3", "blocks.4": "l4", "blocks.5": "l5"}),
    ("timm/pvt_v2_b0", (64, 96), {"stages.1": "l3", "stages.2": "l4", "stages.3": "l5"}),
    ("timm/regnety_002", (64, 96), {"s2": "l3", "s3": "l4", "s4": "l5"}),
    ("timm/mobileone_s0", (64, 96), {"stages.1": "l3", "stages.2": "l4", "stages.3": "l5"}),
    ("timm/fastvit_t8", (64, 96), {"stages.1": "l3", "stages.2": "l4", "stages.3": "l5"}),
    ("timm/swin_tiny_patch4_window7_224", SQUARE, {
        "layers.1": "l3", "layers.2": "l4", "layers.3": "l5"}),
    ("timm/deit_tiny_patch16_224", SQUARE, {"blocks.11": "l4"}),
    ("timm/botnet26t_256", (256, 256), {"stages.1": "l3", "stages.2": "l4", "stages.3": "l5"}),
    ("timm/convit_tiny", SQUARE, {"blocks.11": "l4"}),
    ("timm/crossvit_tiny_240", (240, 240), {"blocks.2": "l4"}),
    ("timm/pit_ti_224", SQUARE, {"transformers.0": "l3", "transformers.1": "l4"}),
    ("torchvision/densenet169", (64, 96), {
        "features.denseblock2": "l3", "features.denseblock3": "l4", "features.norm5": "l5"}),
    ("torchvision/shufflenet_v2_x1_0", (64, 96), {"stage2": "l3", "stage3": "l4", "stage4": "l5"}),
    ("torchvision/mnasnet1_0", (64, 96), {
        "layers.9": "l3", "layers.11": "l4", "layers.13": "l5"}),
    ("torchvision/regnet_x_400mf", (64, 96), {
        "trunk_output.block2": "l3", "trunk_output.block3": "l4", "trunk_output.block4": "l5"}),
    ("torchvision/swin_t", (64, 96), {"features.3": "l3", "features.5": "l4", "features.7": "l5"}),
]  # fmt: skip


def library_network(name):
    """As the library builds it."""
    library, variant = name.split("/")
    if library == "timm":
        return timm.create_model(variant, num_classes=CLASSES)
    return torchvision.models.get_model(variant, num_classes=CLASSES)


def images_of(size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))


def as_map(result, like):
    """What a module gave, as a map of the shape of `like`: the last part of a tuple that has the
    right width, tokens without the class token, PiT's 27 x 27 enlarged to 28 x 28."""
    if isinstance(result, (tuple, list)):
        result = [part for part in result if part.ndim == 4 or part.shape[-1] == like.shape[1]][-1]
    if result.ndim == 3:
        tokens = result[:, -like.shape[2] * like.shape[3] :]
        result = tokens.transpose(1, 2).unflatten(2, like.shape[2:])
    if result.shape[1] != like.shape[1]:
        result = result.permute(0, 3, 1, 2)
    return F.interpolate(result, like.shape[2:], mode="bilinear")


@pytest.mark.parametrize(("name", "size", "modules"), NETWORKS, ids=[row[0] for row in NETWORKS])
def test_network_of_the_papers_tables(name, size, modules):
    """Start values and logits of the library, the maps of its modules, gradients everywhere."""
    torch.manual_seed(5)
    network = cvnets.create_model(name, n_classes=CLASSES).eval()
    torch.manual_seed(5)
    peer = library_network(name).eval()
    own, theirs = network.state_dict(), peer.state_dict()
    assert list(own) == [f"network.{key}" for key in theirs]
    assert all(torch.equal(own[f"network.{key}"], value) for key, value in theirs.items())

    images, seen = images_of(size), {}
    for module, level in modules.items():
        peer.get_submodule(module).register_forward_hook(
            lambda *call, level=level: seen.update({level: call[2]})
        )
    with torch.no_grad():
        torch.testing.assert_close(network(images), peer(images))
        maps = network.features(images)
    assert set(seen) == set(modules.values())
    for level, result in seen.items():
        torch.testing.assert_close(maps[level], as_map(result, maps[level]), msg=level)

    backbone = network.as_backbone(LEVELS)
    found = backbone.features(images)
    for level in LEVELS:
        sides = [side // backbone.strides[level] for side in size]
        assert found[level].shape == (1, backbone.channels[level], *sides)
        torch.testing.assert_close(found[level], maps[level])
    torch.stack([value.square().sum() for value in found.values()]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
    with pytest.raises(RuntimeError, match="cut by as_backbone"):
        backbone(images)
