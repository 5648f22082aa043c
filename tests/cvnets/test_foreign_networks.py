"""The networks of timm and torchvision as classifiers and as backbones."""

from __future__ import annotations

import copy
import math
import pickle
import re

import pytest
import torch
import torchvision
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

import cvnets

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

SLOW = {
    "timm/swin_tiny_patch4_window7_224",
    "timm/botnet26t_256",
    "torchvision/densenet169",
    "torchvision/regnet_x_400mf",
}


def library_network(name):
    """As the library builds it."""
    library, variant = name.split("/")
    if library == "timm":
        return timm.create_model(variant, num_classes=CLASSES)
    return torchvision.models.get_model(variant, num_classes=CLASSES)


def images_of(size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))


def as_map(result, like):
    """What a module gave, as a map of the shape of `like`: the map of PiT's (map, class token) and
    the wider branch of CrossViT's two; tokens without the class token; odd sizes enlarged."""
    if isinstance(result, (tuple, list)):
        result = result[0] if result[0].ndim == 4 else result[1]
    if result.ndim == 3:
        side = math.isqrt(result.shape[1])
        result = result[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    if result.shape[1] != like.shape[1]:
        result = result.permute(0, 3, 1, 2)
    return F.interpolate(result, like.shape[2:], mode="bilinear")


@pytest.mark.parametrize(
    ("name", "size", "modules"),
    [
        pytest.param(*row, id=row[0], marks=[pytest.mark.slow] if row[0] in SLOW else [])
        for row in NETWORKS
    ],
)
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
        sides = [-(-side // backbone.strides[level]) for side in size]
        assert found[level].shape == (1, backbone.channels[level], *sides)
        torch.testing.assert_close(found[level], maps[level])
    torch.stack([value.square().sum() for value in found.values()]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
    with pytest.raises(RuntimeError, match="cut by as_backbone"):
        backbone(images)


# --- as a backbone -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/mobilenet_v2"])
@pytest.mark.parametrize("levels", [["l1"], ["l2", "l4"], ["l5_exp"]])
def test_what_a_backbone_does_not_need_is_gone(name, levels):
    network = cvnets.create_model(name, n_classes=CLASSES).eval()
    images = images_of((64, 64))
    names = list(network.state_dict())
    with torch.no_grad():
        whole = network.features(images)
    backbone = network.as_backbone(levels)
    assert backbone is network
    found = backbone.features(images)
    assert list(found) == list(backbone.channels) == list(backbone.strides) == levels
    assert all(torch.equal(found[level], whole[level]) for level in levels)
    kept = list(backbone.state_dict())
    assert kept == [name for name in names if name in kept]
    assert len(kept) < len(names)
    torch.stack([value.square().sum() for value in found.values()]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
    assert len(pickle.dumps(copy.deepcopy(backbone))) > 0


def test_expansion_behind_the_last_stage_is_a_level_of_its_own():
    network = cvnets.create_model("torchvision/mobilenet_v2")
    assert (network.channels["l5"], network.channels["l5_exp"]) == (320, 1280)


@pytest.mark.parametrize("name", ["densenet121", "swin_t", "vit_b_32", "mnasnet0_5"])
def test_maps_of_torchvision_equal_those_of_its_feature_extractor(name):
    """The maps that reach the classifier, found by tracing the library's network."""
    nodes = {
        "densenet121": "relu",
        "swin_t": "features.7",
        "vit_b_32": "encoder.ln",
        "mnasnet0_5": "layers.16",
    }
    network = cvnets.create_model(f"torchvision/{name}", n_classes=CLASSES).eval()
    traced = create_feature_extractor(network.network, {nodes[name]: "map"}).eval()
    images = images_of(SQUARE)
    with torch.no_grad():
        own = network.features(images, ["l5_exp"])["l5_exp"]
        torch.testing.assert_close(own, as_map(traced(images)["map"], own))


def test_parameters_without_influence_stay_as_buffers():
    """The last exchange of CrossViT's branches serves the narrow one, which gives no map."""
    with torch.device("meta"):
        network = cvnets.create_model("timm/crossvit_tiny_240")
        names = set(network.state_dict())
        backbone = network.as_backbone(["l4"])
    buffers = dict(backbone.named_buffers())
    assert "network.blocks.2.fusion.0.norm1.weight" in buffers
    assert set(backbone.state_dict()) < names


# --- every family of timm ------------------------------------------------------------------------

# One of each family of timm 1.0.31 whose maps can be found: all but gemma4_vit.
FAMILIES = re.findall(
    r"\S+",
    """
beit_base_patch16_224 halonet_h1 mobileone_s1 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32
convnext_zepto_rms cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny
deepseek_vit_412m deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 mobilenetv2_035 efficientvim_m1 efficientvit_b0
efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny
ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small iformer_t
inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_128s
lowformer_b0 mambaout_femto maxvit_pico_rw_256 poolformerv2_s12 gmlp_ti16_224 mobilenetv3_small_050
mobilenetv5_base mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny
nextvit_small nf_regnet_b0 pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002
repghostnet_050 repvit_m1 res2next50 resnest14d resnet10t resnetv2_18 rexnet_100 selecsls42
legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224
tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny vit_tiny_patch16_224
vit_tiny_r_s16_p8_224 vit_srelpos_small_patch16_224 samvit_base_patch16_224 vitamin_small_224
volo_d1_224 ese_vovnet19b_slim_dw legacy_xception xception41p xcit_nano_12_p8_224
""",
)


@pytest.mark.slow
@pytest.mark.parametrize("variant", FAMILIES)
def test_every_family_of_timm_classifies_and_gives_maps(variant):
    with torch.device("meta"):
        images = torch.rand(2, 3, 200, 328)
        network = cvnets.create_model(f"timm/{variant}", n_classes=CLASSES)
        assert network(images).shape == (2, CLASSES)
        backbone = network.as_backbone(LEVELS)
        maps = backbone.train().features(images)
        for level, value in maps.items():
            sides = [-(-side // backbone.strides[level]) for side in (200, 328)]
            assert value.shape == (2, backbone.channels[level], *sides)
        torch.stack([value.sum() for value in maps.values()]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
