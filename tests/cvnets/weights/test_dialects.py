"""Names of other libraries: their networks give our outputs, and weights survive the way there and back."""

from __future__ import annotations

import pytest
import torch

import cvnets
import engine
from cvnets.weights.convert import convert, identify
from cvnets.weights.files import WeightsFile
from cvnets.weights.fit import Network
from cvnets.weights.preprocessing import IMAGENET_MEAN, IMAGENET_STD

SIZES = ((64, 96), (75, 90))
EVEN = ((64, 128), (128, 64))  # transformers resizes odd maps of MobileViTV2 otherwise


def timm_network(name):
    return pytest.importorskip("timm").create_model(name, num_classes=11)


def torchvision_network(name):
    return pytest.importorskip("torchvision").models.get_model(name, num_classes=11)


def transformers_network(name):
    library = pytest.importorskip("transformers")
    if "v2" in name:
        width = float(name.rpartition("_")[2])
        config = library.MobileViTV2Config(width_multiplier=width, num_labels=11)
        return library.MobileViTV2ForImageClassification(config)
    widths = {
        "mobilevit_xx_small": ([64, 80, 96], [16, 16, 24, 48, 64, 80, 320], 2.0),
        "mobilevit_x_small": ([96, 120, 144], [16, 32, 48, 64, 80, 96, 384], 4.0),
        "mobilevit_small": ([144, 192, 240], [16, 32, 64, 96, 128, 160, 640], 4.0),
    }
    hidden, neck, expand = widths[name]
    config = library.MobileViTConfig(
        hidden_sizes=hidden, neck_hidden_sizes=neck, expand_ratio=expand, num_labels=11
    )
    return library.MobileViTForImageClassification(config)


CASES = [
    ("mobilevit_xx_small", "timm", "mobilevit_xxs", timm_network, SIZES),
    ("mobilevit_x_small", "timm", "mobilevit_xs", timm_network, SIZES),
    ("mobilevit_small", "timm", "mobilevit_s", timm_network, SIZES),
    ("mobilevit_v2_0.5", "timm", "mobilevitv2_050", timm_network, SIZES),
    ("mobilevit_v2_0.75", "timm", "mobilevitv2_075", timm_network, SIZES),
    ("mobilevit_v2_1.0", "timm", "mobilevitv2_100", timm_network, SIZES),
    ("mobilevit_v2_1.25", "timm", "mobilevitv2_125", timm_network, SIZES),
    ("mobilevit_v2_1.5", "timm", "mobilevitv2_150", timm_network, SIZES),
    ("mobilevit_v2_1.75", "timm", "mobilevitv2_175", timm_network, SIZES),
    ("mobilevit_v2_2.0", "timm", "mobilevitv2_200", timm_network, SIZES),
    ("mobilevit_xx_small", "hf", "mobilevit_xx_small", transformers_network, SIZES),
    ("mobilevit_x_small", "hf", "mobilevit_x_small", transformers_network, SIZES),
    ("mobilevit_small", "hf", "mobilevit_small", transformers_network, SIZES),
    ("mobilevit_v2_0.5", "hf", "mobilevit_v2_0.5", transformers_network, EVEN),
    ("mobilevit_v2_1.0", "hf", "mobilevit_v2_1.0", transformers_network, EVEN),
    ("mobilenetv2_1.0", "timm", "mobilenetv2_100", timm_network, SIZES),
    ("mobilenetv2_1.0", "torchvision", "mobilenet_v2", torchvision_network, SIZES),
]


def filled(reference, name):
    return reference.fill(cvnets.create_model(name, n_classes=11))


def as_file(state, metadata=None) -> WeightsFile:
    return WeightsFile("w.pt", dict(state), metadata or {})


@pytest.mark.parametrize(("name", "library", "theirs", "make", "sizes"), CASES)
def test_the_other_library_computes_the_same_and_nothing_is_lost(
    reference, tmp_path, name, library, theirs, make, sizes
):
    network = filled(reference, name)
    own = as_file(network.state_dict(), {"channel_order": "RGB", "classes": ["a"]})
    state, metadata = convert(own, Network.of(network), library)
    peer = make(theirs).double().eval()
    peer.load_state_dict(state)
    bgr = metadata["preprocessing"]["channel_order"] == "BGR"
    for size in sizes:
        images = reference.images([2, 3, *size])
        with torch.no_grad():
            expected = peer(images.flip(1) if bgr else images)
            expected = getattr(expected, "logits", expected)
            assert (network(images) - expected).abs().max() < 1e-10 * expected.std()
    again, _ = convert(as_file(state), Network.of(network), "cvnets-main")
    assert again.keys() == network.state_dict().keys()
    assert all(torch.equal(again[key], value) for key, value in network.state_dict().items())
    torch.save(state, tmp_path / "theirs.pt")
    fresh = cvnets.create_model(name, n_classes=11).double()
    report = cvnets.load_weights(fresh, tmp_path / "theirs.pt")
    assert (report.library, report.was_bgr, report.reinitialised) == (library, bgr, ())
    assert all(map(torch.equal, fresh.state_dict().values(), network.state_dict().values()))


def test_weights_of_transformers_are_for_bgr_where_it_flips_the_images(reference):
    """Its image processor flips by default, so its MobileViT holds the first release's weights."""
    network = Network.of(filled(reference, "mobilevit_xx_small"))
    states = {
        target: convert(as_file(network.state, {"channel_order": "RGB"}), network, target)
        for target in ("hf", "timm", "cvnets-v0.1", "cvnets-main")
    }
    orders = {
        target: about["preprocessing"]["channel_order"] for target, (_, about) in states.items()
    }
    assert orders == {"hf": "BGR", "timm": "RGB", "cvnets-v0.1": "BGR", "cvnets-main": "RGB"}
    stem, name = network.state["conv_1.block.conv.weight"], "conv_1.block.conv.weight"
    assert torch.equal(states["cvnets-v0.1"][0][name], stem.flip(1))
    assert torch.equal(states["cvnets-main"][0][name], stem)
    assert torch.equal(states["timm"][0]["stem.conv.weight"], stem)
    theirs = states["hf"][0]["mobilevit.conv_stem.convolution.weight"]
    assert torch.equal(theirs, stem.flip(1))


def test_other_libraries_tell_their_normalisation(reference, tmp_path):
    network = filled(reference, "mobilenetv2_0.25")
    state, _ = convert(
        as_file(network.state_dict(), {"channel_order": "RGB"}), Network.of(network), "torchvision"
    )
    torch.save(state, tmp_path / "w.pt")
    about = cvnets.load_weights(network, tmp_path / "w.pt").preprocessing
    assert (about.mean, about.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_entries_that_are_missing_have_both_names(reference, file, message):
    network = filled(reference, "mobilevit_xx_small")
    state, _ = convert(
        as_file(network.state_dict(), {"channel_order": "RGB"}), Network.of(network), "hf"
    )
    block = "mobilevit.encoder.layer.2.transformer.layer.0.attention.attention"
    del state[f"{block}.key.bias"], state["mobilevit.conv_stem.normalization.bias"]
    path = file(state)
    assert message(cvnets.load_weights, network, path) == (
        f"{path}: the file lacks 2 of 311 entries (conv_1.block.norm.bias, there "
        "mobilevit.conv_stem.normalization.bias, layer_3.1.global_rep.0.pre_norm_mha.1.qkv_proj.bias, "
        f"there {block}.query.bias + {block}.key.bias + {block}.value.bias): "
        'add model.ignore_missing_scopes="conv_1.*,layer_3.*" if they may start anew; '
        f"2 of its 311 entries are unknown here ({block}.query.bias, {block}.value.bias): "
        'add model.resume_exclude_scopes="mobilevit.*" to leave them out'
    )


# --- which network a file holds -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilevit_x_small", "mobilevit_v3_0.5", "resnet34"])
def test_the_network_is_found_by_names_and_shapes(name):
    with torch.device("meta"):
        state = cvnets.create_model(name, n_classes=11).state_dict()
    found = identify(as_file(state))
    assert (found.variant, found.num_classes) == (name, 11)


def test_a_network_that_is_not_there(message):
    with torch.device("meta"):
        state = cvnets.create_model(
            "mobilevit_xx_small", number_heads=2, conv_kernel_size=5
        ).state_dict()
    assert message(identify, as_file(state)).startswith("w.pt: fits none of the ")
    text = message(identify, as_file(state), "mobilevit_xx_small")
    assert "layer_3.1.local_rep.conv_3x3.block.conv.weight is (48, 48, 5, 5) in the file" in text
    assert message(identify, as_file(state), "mobilevit_s") == (
        "no model is called 'mobilevit_s' - did you mean mobilevit_small or mobilevit_x_small?"
    )


def test_only_whole_networks_are_converted(message):
    state = cvnets.create_model("mobilevit_v2_0.5").state_dict()
    network = Network.of(cvnets.create_model("mobilevit_v2_0.5"))
    part = {key: value for key, value in state.items() if "classifier" not in key}
    assert message(convert, as_file(part), network, "timm") == (
        "w.pt: classifier.1.weight is missing: only whole networks can be converted"
    )
    assert message(convert, as_file(state), network, "torchvision") == (
        "--to torchvision: there is no such form of these networks - allowed: cvnets-main, hf, timm"
    )


# --- segmentation --------------------------------------------------------------------------------


def segmentor(name, **values):
    recipe = {"model.segmentation.name": "encoder_decoder", "model.segmentation.n_classes": 7}
    recipe |= {"model.segmentation.activation.name": "relu"}
    # transformers does not dilate the depthwise convolution in front of MobileViTv2's attention
    recipe |= {"model.segmentation.output_stride": 32 if name is V2 else 16}
    family, mode = name
    return engine.build_model(engine.load_recipe(recipe | family | mode | values))


V1 = {"model.classification.name": "mobilevit"}, {"model.classification.mit.mode": "xx_small"}
V2 = (
    {"model.classification.name": "mobilevit_v2"},
    {"model.classification.mitv2.width_multiplier": 0.5},
)


def transformers_segmentor(name):
    library = pytest.importorskip("transformers")
    shared = {"num_labels": 7, "output_stride": 32 if name is V2 else 16}
    if name is V2:
        config = library.MobileViTV2Config(width_multiplier=0.5, aspp_out_channels=256, **shared)
        return library.MobileViTV2ForSemanticSegmentation(config)
    config = library.MobileViTConfig(
        hidden_sizes=[64, 80, 96],
        neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320],
        expand_ratio=2.0,
        **shared,
    )
    return library.MobileViTForSemanticSegmentation(config)


@pytest.mark.parametrize("name", [V1, V2], ids=["v1", "v2"])
def test_deeplabv3_of_transformers_computes_the_same(reference, tmp_path, name):
    """Its weights under our names: the logits of the head are those that it computes."""
    torch.manual_seed(0)
    peer = transformers_segmentor(name).double().eval()
    state = reference.fill(peer).state_dict()
    torch.save(state, tmp_path / "theirs.pt")
    network = segmentor(name).double().eval()
    report = cvnets.load_weights(network, tmp_path / "theirs.pt")
    assert (report.library, report.share, report.reinitialised) == ("hf", 1.0, ())
    images = reference.images([2, 3, 128, 64])
    with torch.no_grad():
        expected = peer(images.flip(1) if report.was_bgr else images).logits
        found = network(images).low_res
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-10 * expected.std()


def test_names_of_the_first_release(reference, tmp_path):
    """Its first layer is for BGR images, like all of that release."""
    network = reference.fill(segmentor(V1))
    old = {
        key.replace("seg_head.classifier.", "seg_head.classifier.classifier."): value
        for key, value in network.state_dict().items()
    }
    assert old.keys() != network.state_dict().keys()
    torch.save(old, tmp_path / "old.pt")
    fresh = segmentor(V1).double()
    report = cvnets.load_weights(fresh, tmp_path / "old.pt")
    assert (report.library, report.was_bgr, report.reinitialised) == ("cvnets-v0.1", True, ())
    for key, value in network.state_dict().items():
        turned = value.flip(1) if key == "encoder.conv_1.block.conv.weight" else value
        assert torch.equal(fresh.state_dict()[key], turned), key
