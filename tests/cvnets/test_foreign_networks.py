"""The networks of timm and torchvision as classifiers and as backbones."""

from __future__ import annotations

import copy
import logging
import math
import pickle
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


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "lines"),
    [
        ("timm/resnet10t", InputSizes(), []),
        ("timm/vit_tiny_patch16_224", InputSizes(step=16), ["multiples of 16; other images are"]),
        ("timm/swin_tiny_patch4_window7_224", InputSizes(step=32), ["multiples of 32; other"]),
        ("timm/pit_ti_224", InputSizes(only=SQUARE), ["images of 224 x 224; others are resized"]),
        ("torchvision/vit_b_32", InputSizes(only=SQUARE), ["images of 224 x 224; others are"]),
        ("torchvision/swin_t", InputSizes(), []),
    ],
)
@pytest.mark.parametrize("size", [(96, 160), (75, 131)])
def test_any_image_size(caplog, name, rule, lines, size):
    caplog.set_level(logging.INFO)
    with torch.device("meta"):
        network = cvnets.create_model(name, n_classes=CLASSES)
        images = torch.rand(2, 3, *size)
        maps = network.features(images)
        assert network(images).shape == (2, CLASSES)
    assert network._sizes == rule
    assert len(caplog.messages) == len(lines)
    assert all(line in said for line, said in zip(lines, caplog.messages, strict=True))
    assert list(maps) == list(network.channels) == list(network.strides)
    for level, value in maps.items():
        sides = [-(-side // network.strides[level]) for side in size]
        assert value.shape == (2, network.channels[level], *sides)


def test_images_of_another_size_are_resized_smoothly():
    network = cvnets.create_model("timm/pit_ti_224", n_classes=CLASSES).eval()
    images = images_of((300, 260))
    smooth = F.interpolate(images, SQUARE, mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(network(images), network.network(smooth))
        maps = network.features(images, ["l4"])["l4"]
        native = network.network.forward_intermediates(smooth, intermediates_only=True)[1]
    assert maps.shape[2:] == (19, 17)
    torch.testing.assert_close(maps, F.interpolate(native, (19, 17), mode="bilinear"))


def test_sizes_that_a_network_takes_are_found_by_trying():
    def network_of(fits):
        def run(size):
            if not fits(*size):
                raise AssertionError("wrong size")

        return run

    assert input_sizes(network_of(lambda h, w: True), SQUARE, 32) == InputSizes()
    even = network_of(lambda h, w: h % 32 == w % 32 == 0)
    assert input_sizes(even, SQUARE, 32) == InputSizes(step=32)
    assert input_sizes(even, SQUARE, 16) == InputSizes(only=SQUARE)
    one = network_of(lambda h, w: (h, w) == SQUARE)
    assert input_sizes(one, SQUARE, 32) == InputSizes(only=SQUARE)
    assert InputSizes(step=32).nearest((1, 65)) == (32, 96)
    assert InputSizes(only=SQUARE).nearest((1, 65)) == SQUARE
    assert InputSizes().nearest((1, 65)) == (1, 65)


def test_levels_come_from_the_nearest_map():
    def places(*strides, behind=False):
        taps = [Tap(place, stride, 8) for place, stride in enumerate(strides)]
        return {level: tap.place for level, tap in by_level(taps).items()}

    plain = {"l1": 0, "l2": 1, "l3": 2, "l4": 3, "l5": 4, "l5_exp": 4}
    assert places(2, 4, 8, 16, 32) == plain
    assert places(1, 2, 2.01, 4.1, 8.6, 17.2, 37.4) == {
        "l1": 2, "l2": 3, "l3": 4, "l4": 5, "l5": 6, "l5_exp": 6,
    }  # fmt: skip
    assert places(16, 16, 16) == {"l2": 2, "l3": 2, "l4": 2, "l5": 2, "l5_exp": 2}
    assert places(4, 8, 16) == {"l2": 0, "l3": 1, "l4": 2, "l5": 2, "l5_exp": 2}
    assert places(8, 32) == {"l2": 0, "l3": 0, "l4": 1, "l5": 1, "l5_exp": 1}
    assert places(16, 32, 64) == {"l2": 0, "l3": 0, "l4": 0, "l5": 1, "l5_exp": 1}
    last = [Tap("a", 32, 8), Tap("b", 32, 64, behind=True)]
    assert by_level(last)["l5"].place == "a"
    assert by_level(last)["l5_exp"].place == "b"


def test_maps_are_averaged_down_and_interpolated_up():
    maps = torch.arange(24.0).reshape(1, 1, 4, 6)
    halved = torch.tensor([[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]])
    assert torch.equal(resample(maps, (2, 3))[0, 0], halved)
    assert resample(maps, (4, 6)) is maps
    assert torch.equal(resample(maps[:, :, :3], (2, 3))[0, 0, 1], torch.tensor([12.5, 14.5, 16.5]))
    up = resample(maps, (8, 12))[0, 0]
    assert up.shape == (8, 12)
    torch.testing.assert_close(up[3, 1:-1], up[3, 1] + 0.5 * torch.arange(10.0))
    for size in ((28, 8), (5, 40), (1, 1)):
        torch.testing.assert_close(resample(torch.ones(1, 2, 31, 9), size), torch.ones(1, 2, *size))


# --- output stride -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet26", False),
        ("timm/regnety_002", False),
        ("timm/pvt_v2_b0", True),
        ("torchvision/resnet50", False),
        ("torchvision/resnet18", True),
        ("torchvision/mobilenet_v2", True),
    ],
)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride(caplog, name, said, output_stride):
    """By dilation, or by larger maps; the log tells which."""
    caplog.set_level(logging.INFO)
    with torch.device("meta"):
        network = cvnets.create_model(name, output_stride=output_stride)
        maps = network.features(torch.rand(1, 3, 64, 96))
    expected = {
        level: min(stride, output_stride) for level, stride in zip(LEVELS, (8, 16, 32), strict=True)
    }
    assert {level: network.strides[level] for level in LEVELS} == expected
    for level, stride in network.strides.items():
        assert maps[level].shape[2:] == (64 // stride, 96 // stride)
    dilations = {
        module.dilation for module in network.modules() if isinstance(module, torch.nn.Conv2d)
    }
    assert ((2, 2) in dilations) == (output_stride < 32 and not said)
    assert caplog.messages == (
        [f"{name} has no output_stride: its last maps are enlarged"] * (said and output_stride < 32)
    )


def test_output_strides_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match="output_stride: 12 is not possible"):
        cvnets.create_model("torchvision/resnet18", output_stride=12)


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


# --- options -------------------------------------------------------------------------------------


def test_drop_rates_reach_the_library():
    with torch.device("meta"):
        network = cvnets.create_model(
            "timm/regnety_002", drop_path_rate=0.25, classifier_dropout=0.5
        )
        paths = [m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath"]
        assert max(paths) == pytest.approx(0.25)
        assert network.network.head.drop.p == 0.5
        mobile = cvnets.create_model("torchvision/mobilenet_v2", classifier_dropout=0.5)
        assert mobile.network.classifier[0].p == 0.5
        own = cvnets.create_model("torchvision/mobilenet_v2")
        assert own.network.classifier[0].p == 0.2
        plain = cvnets.create_model("torchvision/resnet18", classifier_dropout=0.0)
    assert plain.channels["l5"] == 512
    with pytest.raises(UserError, match=r"classifier_dropout: torchvision/resnet18 has none"):
        cvnets.create_model("torchvision/resnet18", classifier_dropout=0.1)
    with pytest.raises(UserError, match=r"timm\.drop_path_rate: timm/vgg11 has no drop_path_rate"):
        cvnets.create_model("timm/vgg11", drop_path_rate=0.1)


def test_gradient_checkpointing_is_timms_own_or_refused():
    torch.manual_seed(1)
    plain = cvnets.create_model("timm/regnety_002", n_classes=CLASSES).double()
    frugal = copy.deepcopy(plain)
    frugal.gradient_checkpointing = True
    assert frugal.gradient_checkpointing and not plain.gradient_checkpointing
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    ran = []
    for network in (plain, frugal):
        network.network.s3.b1.register_forward_pre_hook(lambda *call, of=network: ran.append(of))
        network(images).square().sum().backward()
    assert [network is frugal for network in ran] == [False, True, True]
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-11, msg=key)
    with torch.device("meta"):
        others = [cvnets.create_model(name) for name in ("timm/pit_ti_224", "torchvision/resnet18")]
    for network in others:
        network.gradient_checkpointing = False
        with pytest.raises(UserError, match=r"gradient_checkpointing: .* cannot recompute"):
            network.gradient_checkpointing = True


# --- names and preprocessing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnet51", "timm has no network 'resnet51' - did you mean resnet51q or resnet50"),
        (
            "timm/resnet50.a0_in1k",
            "timm has no weights 'resnet50.a0_in1k' - did you mean resnet50.ra_in1k",
        ),
        ("timm/qwen3_vit_88m_enc", "timm/qwen3_vit_88m_enc has no classifier"),
        (
            "torchvision/resnet19",
            "torchvision has no classification network 'resnet19' - .*resnet18",
        ),
        ("torchvision/raft_large", "torchvision has no classification network 'raft_large'"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(name, said):
    with pytest.raises(UserError, match=f"model.classification.name: {said}"):
        cvnets.create_model(name)


def test_a_missing_timm_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="timm is not installed; pip install timm"):
        cvnets.create_model("timm/resnet18")


def test_a_tag_of_weights_chooses_the_same_network():
    with torch.device("meta"):
        tagged = cvnets.create_model("timm/resnet18.a1_in1k")
        assert list(tagged.state_dict()) == list(cvnets.create_model("timm/resnet18").state_dict())
    assert tagged.head == ("network.fc",)


def test_head_names_what_depends_on_the_classes():
    with torch.device("meta"):
        for name in ("timm/crossvit_tiny_240", "timm/vgg11", "torchvision/vit_b_32"):
            few, many = (cvnets.create_model(name, n_classes=count) for count in (3, 5))
            pairs = zip(few.state_dict().items(), many.state_dict().values(), strict=True)
            differing = [key for (key, a), b in pairs if a.shape != b.shape]
            assert differing
            assert all(key.startswith(few.head) for key in differing)
            assert few.as_backbone(["l4"]).head == ()


def test_preprocessing_of_weights():
    resnet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert torchvision_networks.preprocessing("resnet50", "IMAGENET1K_V1") == {
        **resnet, "size": SQUARE, "crop_pct": 0.875, "interpolation": "bilinear",
    }  # fmt: skip
    assert torchvision_networks.preprocessing("resnet50")["crop_pct"] == 224 / 232
    assert timm_networks.preprocessing("resnet50.tv_in1k") == {
        **resnet, "size": SQUARE, "crop_pct": 0.875, "interpolation": "bilinear",
    }  # fmt: skip
    assert timm_networks.preprocessing("mobilevit_s")["mean"] == (0.0, 0.0, 0.0)
    assert timm_networks.preprocessing("mobilevit_s")["size"] == (256, 256)
    with pytest.raises(UserError, match="has no weights 'V3' - allowed: DEFAULT, IMAGENET1K_V1"):
        torchvision_networks.preprocessing("resnet50", "V3")


def test_inception_weights_of_torchvision_expect_the_range_from_minus_one_to_one():
    """torchvision transforms ImageNet-normalised images to that range inside the network."""
    from torchvision.models import inception_v3

    with torch.device("meta"):
        theirs = inception_v3(aux_logits=False, init_weights=False, transform_input=True)
    images = images_of((8, 8))
    mean, std = (
        torch.tensor(value)[:, None, None]
        for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    expected = theirs._transform_input((images - mean) / std)
    ours = torchvision_networks.preprocessing("inception_v3")
    mean, std = (torch.tensor(ours[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close((images - mean) / std, expected)
