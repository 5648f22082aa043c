"""Loading weights into a network: what is taken, what starts anew, and what is refused."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import cvnets
from cvnets.weights.convert import convert
from cvnets.weights.files import WeightsFile
from cvnets.weights.fit import Network
from cvnets.weights.zoo import find


class Net(nn.Sequential):
    """A backbone of eight entries, and a classifier."""

    def __init__(self, classes: int = 3, width: int = 8):
        parts = OrderedDict(
            stem=nn.Conv2d(3, width, 1),
            body=nn.Conv2d(width, 8 * width, 3, groups=1, bias=False),
            norm=nn.BatchNorm2d(width),
        )
        parts["classifier"] = nn.Sequential(OrderedDict(fc=nn.Linear(width, classes)))
        super().__init__(parts)


def lines(report) -> list[str]:
    return [" ".join(line.split()) for line in report.lines()]


def test_a_matching_file_is_loaded_whole(file):
    source, target = Net(), Net()
    report = cvnets.load_weights(target, path := file(source.state_dict()))
    for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert lines(report) == [
        f"weights: {path}",
        "loaded 10 of 10 entries, 100.0 % of the elements outside the head",
    ]


def test_another_number_of_classes_starts_anew_and_is_listed(file):
    source, target = Net(classes=5), Net(classes=3)
    fresh = target.classifier.fc.weight.clone()
    report = cvnets.load_weights(target, path := file(source.state_dict()))
    assert torch.equal(target.stem.weight, source.stem.weight)
    assert torch.equal(target.classifier.fc.weight, fresh)
    assert lines(report) == [
        f"weights: {path}",
        "loaded 8 of 10 entries, 100.0 % of the elements outside the head",
        "re-initialised classifier.fc.weight here (3, 8), in the file (5, 8): another number of classes",
        "re-initialised classifier.fc.bias here (3,), in the file (5,): another number of classes",
    ]


def test_a_file_without_a_classifier(file, message):
    state = Net().state_dict()
    backbone = {key: value for key, value in state.items() if "classifier" not in key}
    report = cvnets.load_weights(Net(), file(backbone))
    assert {entry.why for entry in report.reinitialised} == {"the file has no classifier"}
    half = {key: value for key, value in state.items() if key != "classifier.fc.bias"}
    path = file(half)
    assert message(cvnets.load_weights, Net(), path) == (
        f"{path}: the file lacks 1 of 10 entries (classifier.fc.bias): "
        f'add model.ignore_missing_scopes="classifier.*" if they may start anew'
    )


def test_a_head_of_another_width_is_another_network(file, message):
    state = Net().state_dict()
    state["classifier.fc.weight"] = torch.ones(3, 9)
    assert "classifier.fc.weight is (3, 9) in the file and (3, 8) here" in message(
        cvnets.load_weights, Net(), file(state)
    )


@pytest.mark.parametrize("exclude", ["classifier.*", ["classifier"], r" nothing , classifier\.fc"])
def test_excluded_entries_start_anew(file, exclude):
    source, target = Net(), Net()
    fresh = target.classifier.fc.weight.clone()
    report = cvnets.load_weights(target, file(source.state_dict()), exclude=exclude)
    assert torch.equal(target.classifier.fc.weight, fresh)
    assert [(entry.key, entry.why) for entry in report.reinitialised] == [
        ("classifier.fc.weight", "allowed by the scopes"),
        ("classifier.fc.bias", "allowed by the scopes"),
    ]


def test_entries_that_only_one_side_has(file):
    state = Net().state_dict()
    state["extra.weight"] = torch.ones(1)
    del state["norm.bias"]
    path = file(state)
    report = cvnets.load_weights(Net(), path, exclude="extra", ignore_missing="norm.*")
    assert lines(report) == [
        f"weights: {path}",
        "loaded 9 of 10 entries, 99.8 % of the elements outside the head",
        "re-initialised norm.bias here (8,), in the file missing: allowed by the scopes",
        "ignored 1 entries: extra.weight",
    ]


def test_a_backbone_that_stays_random_is_refused_even_if_the_scopes_allow_it(file, message):
    """The body holds 4,608 of its 4,673 elements (32 in the stem, 33 in the norm)."""
    path = file(Net().state_dict())
    assert message(cvnets.load_weights, Net(), path, exclude="body.*") == (
        f"{path}: only 1.4 % of the elements outside the head fit, at least 95 % are needed: "
        "the file belongs to another network or size"
    )
    report = cvnets.load_weights(Net(), path, exclude="norm.*")
    assert report.share == pytest.approx((4608 + 32) / 4673)


def test_patterns_match_from_the_start_of_a_name(file, message):
    path = file(Net().state_dict() | {"a.zz": torch.ones(1)})
    assert "1 of its 11 entries are unknown here (a.zz)" in message(
        cvnets.load_weights, Net(), path, exclude="zz.*"
    )


def test_renaming_follows_excluding(file, message):
    """Patterns of `exclude` see the names in the file; the pairs are applied one after the other."""
    state = {key.replace("stem", "first"): value for key, value in Net().state_dict().items()}
    rules = [("^first", "second"), ("second", "stem")]
    target = Net()
    cvnets.load_weights(target, path := file(state), rename=rules)
    assert torch.equal(target.stem.weight, state["first.weight"])
    assert "the file lacks 2 of 10 entries (stem.weight, stem.bias)" in message(
        cvnets.load_weights, Net(), path, rename=rules, exclude="first"
    )
    report = cvnets.load_weights(Net(), path, rename=rules, exclude="first,stem")
    assert [entry.key for entry in report.reinitialised] == ["stem.weight", "stem.bias"]
    assert message(cvnets.load_weights, Net(), path, rename=[("weight|bias", "x")]) == (
        f"model.rename_scopes_map: two entries of {path} become 'first.x'"
    )


def test_what_does_not_fit_is_named_in_one_line(file, message):
    target = Net()
    before = target.stem.weight.clone()
    state = Net().state_dict()
    del state["norm.weight"], state["stem.bias"]
    path = file(state | {"a.b": torch.ones(1), "norm.bias": torch.ones(9)})
    assert message(cvnets.load_weights, target, path) == (
        f"{path}: norm.bias is (9,) in the file and (8,) here: "
        f'add model.resume_exclude_scopes="norm.*" to start anew there; '
        f"the file lacks 2 of 10 entries (stem.bias, norm.weight): "
        f'add model.ignore_missing_scopes="stem.*,norm.*" if they may start anew; '
        f"1 of its 9 entries are unknown here (a.b): "
        f'add model.resume_exclude_scopes="a.*" to leave them out'
    )
    assert torch.equal(target.stem.weight, before)
    path = file(Net(width=16).state_dict())
    assert message(cvnets.load_weights, target, path).startswith(
        f"{path}: only 0.0 % of the elements outside the head fit, at least 95 % are needed: "
        "the file belongs to another network or size; stem.weight is (16, 3, 1, 1) in the file"
    )
    path = file({"layer1.0.weight": torch.ones(1), "layer1.0.bias": torch.ones(1)})
    assert message(cvnets.load_weights, target, path) == (
        f"{path}: none of its 2 entries is in this network of 10 (file: layer1.0.weight, layer1.0.bias; "
        f"here: stem.weight, stem.bias, body.weight and 7 more): the file belongs to another network"
    )
    assert message(cvnets.load_weights, target, path, exclude="(") == (
        "model.resume_exclude_scopes: '(' is no regular expression "
        "(missing ), unterminated subpattern at position 0)"
    )


def test_parts_of_a_training_checkpoint_are_named(file):
    state = Net().state_dict()
    path = file({"model_state_dict": state, "ema_state_dict": state})
    assert lines(cvnets.load_weights(Net(), path)) == [
        f"weights: {path} (model_state_dict of a training checkpoint)",
        "loaded 10 of 10 entries, 100.0 % of the elements outside the head",
        "ignored other weights in the file: ema_state_dict",
    ]


# --- backbones of detection and segmentation networks --------------------------------------------


def test_the_backbone_of_a_detector_starts_a_classifier(file):
    source = cvnets.create_model("mobilevit_v2_0.5", n_classes=4)
    state = {f"encoder.{k}": v for k, v in source.state_dict().items() if "classifier" not in k}
    state |= {"ssd_heads.0.proj.weight": torch.ones(2), "extra_layers.a": torch.ones(2)}
    target = cvnets.create_model("mobilevit_v2_0.5", n_classes=7)
    report = cvnets.load_weights(target, file(state))
    assert report.share == 1
    assert {entry.why for entry in report.reinitialised} == {"the file has no classifier"}
    assert report.ignored == ("ssd_heads.0.proj.weight", "extra_layers.a")
    assert torch.equal(
        target.layer_5[1].conv_proj.block.conv.weight, source.layer_5[1].conv_proj.block.conv.weight
    )


def test_the_last_convolution_may_be_missing_in_such_files_only(file, message):
    source = cvnets.create_model("mobilevit_xx_small", n_classes=4)
    kept = {
        key: value
        for key, value in source.state_dict().items()
        if not key.startswith(("classifier", "conv_1x1_exp"))
    }
    target = cvnets.create_model("mobilevit_xx_small", n_classes=7)
    inner = file({f"encoder.{key}": value for key, value in kept.items()} | {"h": torch.ones(1)})
    report = cvnets.load_weights(target, inner, source="cvnets-main")
    assert len(report.reinitialised) == 6 + 2
    assert "the file lacks 6 of 311 entries (conv_1x1_exp.block.conv.weight" in message(
        cvnets.load_weights, target, file(kept), source="cvnets-main"
    )


# --- channel order -------------------------------------------------------------------------------


def test_weights_for_bgr_images_are_turned_to_rgb_once(file):
    source = cvnets.create_model("mobilevit_xx_small", n_classes=4).double().eval()
    target = cvnets.create_model("mobilevit_xx_small", n_classes=4).double().eval()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    report = cvnets.load_weights(target, file(source.state_dict()), source="cvnets-v0.1")
    torch.testing.assert_close(target(images), source(images.flip(1)), rtol=1e-12, atol=1e-12)
    assert report.was_bgr
    assert report.preprocessing.channel_order == "RGB"
    report = cvnets.load_weights(target, file(source.state_dict()), source="cvnets-main")
    assert torch.equal(target(images), source(images))
    assert not report.was_bgr


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("mobilevit_xx_small", "cvnets-v0.1 (BGR) or cvnets-main (RGB)"),
        ("mobilevit_v3_xx_small", "mobilevitv3 (BGR) or cvnets-main (RGB)"),
        ("mobilenetv2_0.25", "cvnets-v0.1 (BGR) or cvnets-main (RGB)"),
        ("resnet18", "cvnets-v0.1 (BGR) or cvnets-main (RGB)"),
    ],
)
def test_a_file_that_does_not_tell_its_channel_order_is_refused(file, message, name, candidates):
    model = cvnets.create_model(name, n_classes=2)
    path = file(model.state_dict())
    assert message(cvnets.load_weights, model, path) == (
        f"{path}: says nothing of its channel order, and networks of this family were published "
        f"for both: set model.weights_source to {candidates}; cvnets check {path} --data FOLDER "
        "tells which one fits"
    )


@pytest.mark.parametrize("name", ["mobilevit_v2_0.5", "mobilevit_v3_0.5", "mobilenetv1_0.25"])
def test_families_that_were_published_for_rgb_only_need_no_source(file, name):
    model = cvnets.create_model(name, n_classes=2)
    assert not cvnets.load_weights(model, file(model.state_dict())).was_bgr


def test_a_source_that_cannot_be_is_refused(file, message):
    model = cvnets.create_model("mobilevit_xx_small", n_classes=2)
    path = file(model.state_dict())
    assert message(cvnets.load_weights, model, path, source="torchvision") == (
        f"{path}: cannot come from torchvision (model.weights_source), which has no networks of "
        "this family - allowed: auto, cvnets-main, cvnets-v0.1, hf, timm"
    )


def test_a_backbone_that_lacks_its_last_convolution_is_whole_without_it(file):
    """In MobileNetV2 it holds a fifth of the elements: those behind do not count against the rest."""
    source = cvnets.create_model("mobilenetv2_0.25", n_classes=4)
    kept = {
        f"encoder.{key}": value
        for key, value in source.state_dict().items()
        if not key.startswith(("classifier", "conv_1x1_exp"))
    }
    target = cvnets.create_model("mobilenetv2_0.25", n_classes=4)
    assert cvnets.load_weights(target, file(kept), source="cvnets-main").share == 1


def test_numbers_that_no_network_can_have_are_refused(file, message):
    state = Net().state_dict()
    state["stem.weight"][0] = float("nan")
    assert "1 entries hold no numbers that a network can have (stem.weight)" in message(
        cvnets.load_weights, Net(), file(state)
    )
    whole = Net().state_dict() | {"body.weight": torch.ones(64, 8, 3, 3, dtype=torch.int8)}
    assert "integers for fractions" in message(cvnets.load_weights, Net(), file(whole))
    half = {key: v.half() if v.is_floating_point() else v for key, v in Net().state_dict().items()}
    assert cvnets.load_weights(Net(), file(half)).share == 1


def test_the_head_of_any_module_is_its_last_linear_layer(file, message):
    """Whatever attributes it has, and however deep the layer lies."""
    wrapped = nn.ModuleDict({"net": Net(classes=5)})
    wrapped.head = nn.Identity()
    target = nn.ModuleDict({"net": Net(classes=3)})
    report = cvnets.load_weights(target, path := file(wrapped.state_dict()))
    assert [entry.key for entry in report.reinitialised] == [
        "net.classifier.fc.weight", "net.classifier.fc.bias",
    ]  # fmt: skip
    headless = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3))
    assert "none of its" in message(cvnets.load_weights, headless, path)


def test_a_folder_of_transformers_tells_whether_it_flips(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    network = cvnets.create_model("mobilevit_xx_small", n_classes=3)
    own = WeightsFile("w", network.state_dict(), {"channel_order": "RGB"})
    state, _ = convert(own, Network.of(network), "hf")
    library.save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
    fresh = cvnets.create_model("mobilevit_xx_small", n_classes=3)
    assert cvnets.load_weights(fresh, tmp_path).was_bgr
    (tmp_path / "preprocessor_config.json").write_text('{"do_flip_channel_order": false}')
    assert not cvnets.load_weights(fresh, tmp_path).was_bgr
    assert cvnets.load_weights(fresh, tmp_path, source="cvnets-v0.1").was_bgr


def test_scopes_match_foreign_names_too(file):
    network = cvnets.create_model("mobilevit_xx_small", n_classes=3)
    own = WeightsFile("w", network.state_dict(), {"channel_order": "RGB"})
    state, _ = convert(own, Network.of(network), "hf")
    report = cvnets.load_weights(network, file(state), exclude=r"mobilevit\.conv_stem\.norm")
    assert {entry.key.rpartition(".")[0] for entry in report.reinitialised} == {"conv_1.block.norm"}


def test_what_is_no_path_is_refused(message):
    assert message(cvnets.load_weights, Net(), Net().state_dict()) == (
        "weights are given as a path, an address or a name, not as OrderedDict"
    )


def test_metadata_tell_the_channel_order(file, message):
    """Format 1 has the order beside the recipe, format 2 all of the preprocessing."""
    model = cvnets.create_model("mobilevit_xx_small", n_classes=2)
    norm = "image_augmentation.to_tensor.mean_std_normalization"
    recipe = {f"{norm}.enable": True, f"{norm}.mean": [0.5, 0.5, 0.5], f"{norm}.std": [1, 1, 1]}
    half = {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}
    for metadata, bgr, mean in (
        ({"format": 1, "channel_order": "RGB", "recipe": {}}, False, (0, 0, 0)),
        ({"format": 1, "channel_order": "RGB", "recipe": recipe}, False, (0.5, 0.5, 0.5)),
        ({"format": 2, "preprocessing": {"channel_order": "RGB", **half}}, False, (0.5, 0.5, 0.5)),
        ({"format": 2, "preprocessing": {"channel_order": "BGR", "resize": 288}}, True, (0, 0, 0)),
    ):
        state = model.state_dict()
        state._metadata["cvnets"] = metadata
        report = cvnets.load_weights(model, path := file(state))
        assert (report.was_bgr, report.preprocessing.mean) == (bgr, mean)
    assert report.preprocessing.resize == 288
    assert cvnets.load_weights(model, path, source="cvnets-main").was_bgr  # metadata come first


# --- named weights -------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of fetched weights that holds the first release's MobileViT-XXS."""
    monkeypatch.setenv("CVNETS_CACHE", str(tmp_path))
    source = cvnets.create_model("mobilevit_xx_small")
    torch.save(source.state_dict(), tmp_path / "mobilevit_xx_small.pt")
    return source


def test_the_table_of_named_weights_tells_the_preprocessing(cache, message, tmp_path):
    target = cvnets.create_model("mobilevit_xx_small")
    for given in ("mobilevit_xx_small", find("mobilevit_xx_small").url):
        report = cvnets.load_weights(target, given)
        assert report.was_bgr
        assert (report.preprocessing.resize, report.preprocessing.crop) == (288, (256, 256))
    stem = "conv_1.block.conv.weight"
    assert torch.equal(target.state_dict()[stem], cache.state_dict()[stem].flip(1))
    path = tmp_path / "mobilevit_xx_small.pt"
    assert message(cvnets.load_weights, target, "mobilevit_xx_small", source="cvnets-main") == (
        f"{path}: was published for BGR images, other than weights of cvnets-main; "
        "set model.weights_source to auto"
    )


def test_a_file_wins_over_a_name(cache, monkeypatch, tmp_path, message):
    monkeypatch.chdir(tmp_path)
    torch.save(cache.state_dict(), "mobilevit_small")
    assert "says nothing of its channel order" in message(
        cvnets.load_weights, cvnets.create_model("mobilevit_xx_small"), "mobilevit_small"
    )


def test_a_name_that_is_nearly_one(message):
    assert message(cvnets.load_weights, Net(), "mobilevit_smal") == (
        "mobilevit_smal: no such file, and no weights of this name - did you mean mobilevit_small?"
    )
