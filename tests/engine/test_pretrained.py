"""Weights that a recipe names, and the commands that convert and check files of weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import cvnets
import engine
from config.errors import UserError
from config.registry import NoOptions
from cvnets.weights.load import open_weights
from data.datasets.classification.imagenet import ImageFolder
from data.transforms.classification import EvaluationTransform
from data.transforms.section import ImageAugmentationSection
from engine import evaluate, load_recipe, train
from engine.channel_order import compare_orders
from engine.command_line import main
from engine.effects import without_effect

SECTION = "model.classification"
PRETRAINED = f"{SECTION}.pretrained"


@pytest.fixture
def small_recipe(tiny_recipe) -> dict:
    """The tiny recipe with a network that has backbone and head."""
    return tiny_recipe | {
        "model.classification.name": "mobilenetv1",
        "model.classification.mobilenetv1.width_multiplier": 0.25,
        "scheduler.max_epochs": 1,
    }


@pytest.fixture
def trained(small_recipe) -> Path:
    """The run folder of a training on three classes."""
    return Path(train(load_recipe(small_recipe))["run"])


def two_classes(image_folder: Path, tmp_path: Path) -> dict[str, str]:
    """The data without the class `slant`."""
    for split in ("train", "val"):
        for name in ("across", "down"):
            shutil.copytree(image_folder / split / name, tmp_path / "two" / split / name)
    return {f"dataset.root_{split}": str(tmp_path / "two" / split) for split in ("train", "val")}


# --- training from weights -----------------------------------------------------------------------


def frozen_rates(recipe, **changes):
    """The recipe for one epoch that moves nothing."""
    still = {"scheduler.max_epochs": 1, "scheduler.warmup_iterations": 0, "optim.weight_decay": 0}
    still |= {"scheduler.cosine.max_lr": 1e-12, "scheduler.cosine.min_lr": 0, "ema.enable": False}
    return load_recipe(recipe | still | {"common.run_label": "second"} | changes)


@pytest.mark.parametrize("anew", [False, True])
def test_a_new_classifier_also_for_as_many_classes(small_recipe, trained, caplog, anew):
    """finetune_pretrained_model; the weights of the backbone are loaded either way."""
    old = torch.load(trained / "checkpoint_last.pt")
    changes = {
        PRETRAINED: str(trained / "checkpoint_last.pt"),
        f"{SECTION}.n_pretrained_classes": 3,
    }
    recipe = frozen_rates(small_recipe, **changes, **{f"{SECTION}.finetune_pretrained_model": anew})
    with caplog.at_level("INFO"):
        new = torch.load(Path(train(recipe)["run"]) / "checkpoint_last.pt")
    for key in [key for key in old if key.endswith(".weight")]:
        assert torch.equal(old[key], new[key]) == (not (anew and "classifier_fc" in key)), key
    assert ("finetune_pretrained_model is true" in caplog.text) == anew
    # the weights that came of it are evaluated as they are
    given = {PRETRAINED: str(trained / "checkpoint_last.pt")}
    fixed = small_recipe | given | {f"{SECTION}.finetune_pretrained_model": anew}
    assert evaluate(load_recipe(fixed | {f"{SECTION}.n_pretrained_classes": 99}))["images"] == 33


def test_the_number_of_pretrained_classes_is_compared(
    small_recipe, trained, image_folder, tmp_path
):
    changes = {
        PRETRAINED: str(trained / "checkpoint_last.pt"),
        f"{SECTION}.n_pretrained_classes": 2,
    }
    changes |= two_classes(image_folder, tmp_path)
    with pytest.raises(
        UserError, match=r"n_pretrained_classes: 2 in the recipe, but .* has 3; set"
    ):
        train(frozen_rates(small_recipe, **changes))


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_fine_tuning_without_weights_has_no_effect(kind, small_recipe, segmentation_recipe):
    recipe = small_recipe if kind == "classification" else segmentation_recipe
    keys = [
        f"model.{kind}.{name}" for name in ("finetune_pretrained_model", "n_pretrained_classes")
    ]
    lines = without_effect(load_recipe(recipe | dict(zip(keys, (True, 7), strict=True))))
    for key in keys:
        assert any(f"{key} has no effect: no weights are given" in line for line in lines), lines


def test_a_new_head_of_segmentation(segmentation_recipe, tmp_path):
    section = "model.segmentation"
    first = train(load_recipe(segmentation_recipe | {"scheduler.max_epochs": 1}))["run"]
    weights = Path(first) / "checkpoint_last.pt"
    changes = {f"{section}.pretrained": str(weights), f"{section}.finetune_pretrained_model": True}
    old = torch.load(weights)
    new = torch.load(
        Path(train(frozen_rates(segmentation_recipe, **changes))["run"]) / "checkpoint_last.pt"
    )
    fresh = {key for key in old if key.endswith("weight") and not torch.equal(old[key], new[key])}
    assert fresh == {
        "seg_head.classifier.block.conv.weight",
        "seg_head.aux_head.2.block.conv.weight",
    }


@pytest.mark.parametrize("key", [PRETRAINED, "common.finetune"])
def test_another_number_of_classes_starts_with_the_table(
    small_recipe, trained, image_folder, tmp_path, caplog, key
):
    changes = two_classes(image_folder, tmp_path) | {"common.run_label": "two"}
    best = trained / "checkpoint_best.pt"
    recipe = load_recipe(small_recipe | changes | {key: str(best), "scheduler.cosine.max_lr": 1e-7,
                                                  "scheduler.cosine.min_lr": 1e-7})  # fmt: skip
    with caplog.at_level("INFO"):
        folder = Path(train(recipe)["run"])
    table = " ".join(caplog.text.split())
    assert (
        f"weights: {best} loaded 162 of 164 entries, 100.0 % of the elements outside the head"
        in table
    )
    assert (
        "re-initialised classifier.classifier_fc.weight here (2, 256), in the file (3, 256): another"
        in table
    )
    old, new = (torch.load(f / "checkpoint_last.pt") for f in (trained, folder))
    assert new["classifier.classifier_fc.weight"].shape == (2, 256)
    torch.testing.assert_close(
        new["conv_1.block.conv.weight"],
        torch.load(best)["conv_1.block.conv.weight"],
        atol=1e-4,
        rtol=0,
    )
    assert old.keys() == new.keys()


def test_an_evaluation_needs_all_weights(small_recipe, trained, image_folder, tmp_path):
    changes = two_classes(image_folder, tmp_path)
    recipe = load_recipe(small_recipe | changes | {PRETRAINED: str(trained / "checkpoint_best.pt")})
    with pytest.raises(UserError, match=r"2 entries would start anew .*another number of classes"):
        evaluate(recipe)


def test_the_preprocessing_travels_with_the_weights(small_recipe, trained):
    about = torch.load(trained / "checkpoint_best.pt")._metadata["cvnets"]["preprocessing"]
    assert about == {
        "channel_order": "RGB",
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "resize": 32,
        "crop": [32, 32],
        "interpolation": "bilinear",
    }


def test_a_recipe_that_normalises_otherwise_is_refused(small_recipe, trained, caplog):
    norm = "image_augmentation.to_tensor.mean_std_normalization"
    weights = {PRETRAINED: str(trained / "checkpoint_best.pt")}
    with pytest.raises(UserError) as error:
        evaluate(load_recipe(small_recipe | weights | {f"{norm}.enable": True}))
    assert str(error.value) == (
        f"{PRETRAINED}: {weights[PRETRAINED]}: its weights expect values in [0, 1] without "
        f"normalisation, the recipe feeds values normalised by mean [0.485,0.456,0.406] and std "
        f"[0.229,0.224,0.225]; set {norm}.enable=false"
    )
    with caplog.at_level("INFO"):
        evaluate(load_recipe(small_recipe | weights | {"image_augmentation.resize.size": 40}))
    assert "evaluated with resize 32, this recipe says 40" in caplog.text


def test_the_source_decides_between_rgb_and_bgr(small_recipe, trained, tmp_path):
    """The same weights as those of the first release: after loading they see RGB all the same."""
    model = cvnets.create_model("mobilenetv2_0.25", n_classes=3)
    state = model.state_dict()
    flipped = state | {"conv_1.block.conv.weight": state["conv_1.block.conv.weight"].flip(1)}
    torch.save(state, tmp_path / "rgb.pt")
    torch.save(flipped, tmp_path / "bgr.pt")
    small_recipe |= {"model.classification.name": "mobilenetv2",
                     "model.classification.mobilenetv2.width_multiplier": 0.25}  # fmt: skip
    found = [
        evaluate(
            load_recipe(small_recipe | {PRETRAINED: str(tmp_path / file), "common.run_label": file,
                                        "model.weights_source": source})
        )["metrics"]
        for file, source in (("rgb.pt", "cvnets-main"), ("bgr.pt", "cvnets-v0.1"))
    ]  # fmt: skip
    assert found[0] == found[1]


def test_what_was_finetuned_from_elsewhere_is_evaluated_converted_and_loaded(
    small_recipe, image_folder, tmp_path, monkeypatch
):
    """The recipe in a file tells of the weights it began with: that must not be applied to itself."""
    old = cvnets.create_model("mobilenetv2", width_multiplier=0.15, n_classes=7)
    torch.save(old.state_dict(), tmp_path / "old.pt")
    recipe = small_recipe | {
        "model.classification.name": "mobilenetv2",
        "model.classification.mobilenetv2.width_multiplier": 0.15,
        PRETRAINED: str(tmp_path / "old.pt"),
        "model.weights_source": "cvnets-v0.1",
        "model.resume_exclude_scopes": "classifier.*",
        "common.auto_resume": True,
    }
    del recipe["model.classification.mobilenetv1.width_multiplier"]
    folder = Path(train(load_recipe(recipe))["run"])
    best, state = folder / "checkpoint_best.pt", folder / "training_checkpoint_last.pt"
    plugins = f"common.plugins={recipe['common.plugins'][0]}"
    for weights in (best, state):
        assert main(["eval", str(weights), plugins, "-q"]) == 0
        label = engine.load(weights, [plugins]).predict(np.zeros((32, 32, 3), np.uint8)).label
        assert label in ("across", "down", "slant")
    assert (folder / "evaluations/checkpoint_best/predictions.png").exists()
    # a width without a name is found in the recipe, and averages carry the recipe, too
    assert main(["convert", str(state), str(tmp_path / "ema.pt"), "--ema", "--to", "timm"]) == 0
    assert "blocks.0.0.conv_dw.weight" in torch.load(tmp_path / "ema.pt")
    (tmp_path / "old.pt").unlink()  # a state holds all weights: those it began with are not needed
    train(load_recipe(recipe | {"scheduler.max_epochs": 2}, ["common.resume_changes=allow"]))


def test_other_class_names_of_the_same_number_are_named(
    small_recipe, trained, image_folder, tmp_path, caplog
):
    for split in ("train", "val"):
        shutil.copytree(image_folder / split, tmp_path / "renamed" / split)
        (tmp_path / "renamed" / split / "slant").rename(tmp_path / "renamed" / split / "wave")
    data = {
        f"dataset.root_{split}": str(tmp_path / "renamed" / split) for split in ("train", "val")
    }
    weights = {PRETRAINED: str(trained / "checkpoint_best.pt"), "common.run_label": "renamed"}
    with caplog.at_level("INFO"):
        train(load_recipe(small_recipe | data | weights))
    assert "the classes are kept, but they have other names than in the data" in caplog.text


# --- commands ------------------------------------------------------------------------------------


def test_convert_there_and_back(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = cvnets.create_model("mobilevit_xx_small", n_classes=5).state_dict()
    state._metadata["cvnets"] = {"format": 1, "channel_order": "RGB", "classes": list("abcde")}
    torch.save(state, "ours.pt")
    assert main(["convert", "ours.pt", "hf.safetensors", "--to", "hf"]) == 0
    assert capsys.readouterr().out == (
        "hf.safetensors: mobilevit_xx_small, 347 entries as hf names them, for BGR images\n"
    )
    assert main(["convert", "hf.safetensors", "timm.pt", "--to", "timm"]) == 0
    assert main(["convert", "timm.pt", "again.safetensors"]) == 0
    file, _ = open_weights("again.safetensors")
    assert file.metadata["classes"] == list("abcde")
    assert file.state.keys() == state.keys()
    assert all(torch.equal(file.state[key], state[key]) for key in state)


def test_the_averaged_weights_of_a_training_state(trained, tmp_path):
    out = tmp_path / "ema.pt"
    state = trained / "training_checkpoint_last.pt"
    assert main(["convert", str(state), str(out), "--ema"]) == 0
    averaged = torch.load(trained / "checkpoint_ema_last.pt")
    assert all(torch.equal(value, averaged[key]) for key, value in torch.load(out).items())


class ByColour(nn.Module):
    """Class 0 is red, class 1 green, class 2 blue."""

    def forward(self, images):
        return 10 * images.mean((2, 3))


@pytest.fixture
def colours(tmp_path) -> ImageFolder:
    for number, name in enumerate(("a_red", "b_green", "c_blue")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[..., 2 - number] = 250  # OpenCV writes BGR
        for place in range(8):
            cv2.imwrite(str(tmp_path / "colours" / name / f"{place}.png"), pixels)
    return ImageFolder(NoOptions(), root=str(tmp_path / "colours"), split="test")


def test_images_tell_which_channel_order_fits(colours):
    """Green images are the same in both orders; red and blue change places."""
    transform = EvaluationTransform(ImageAugmentationSection())
    verdict = compare_orders(ByColour(), colours, transform, images=24, size=32)
    assert verdict.order == "RGB"
    assert verdict.scores["RGB"].top1 == 100
    assert verdict.scores["BGR"].top1 == pytest.approx(100 / 3)
    flipped = nn.Sequential(Flip(), ByColour())
    assert compare_orders(flipped, colours, transform, images=24, size=32).order == "BGR"
    grey = nn.Sequential(Grey(), ByColour())
    assert compare_orders(grey, colours, transform, images=24, size=32).order is None


class Flip(nn.Module):
    def forward(self, images):
        return images.flip(1)


class Grey(nn.Module):
    def forward(self, images):
        return images.mean(1, keepdim=True).expand_as(images)


def test_check_prints_both_orders(colours, tmp_path, capsys):
    model = cvnets.create_model("mobilevit_xx_small", n_classes=3)
    nn.init.zeros_(model.classifier.fc.weight)  # so that neither order is better
    torch.save(model.state_dict(), tmp_path / "w.pt")
    words = ["check", str(tmp_path / "w.pt"), "--data", str(colours.root), "--size", "32"]
    assert main([*words, "--model", "mobilevit_xx_small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'w.pt'}: mobilevit_xx_small, 24 images"
    assert [line.split()[1] for line in lines if "GB" in line or "BGR" in line][:2] == [
        "RGB",
        "BGR",
    ]
    assert (
        lines[-1] == "no clear difference: try more images (--images), or the data are not its own"
    )
    capsys.readouterr()
    assert main(["check", str(tmp_path / "w.pt"), "--data", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"--data {tmp_path / 'nowhere'}: no such folder\n"
