"""Mistakes with files of weights."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tests.mistakes.case import (
    WEIGHTS,
    Case,
    all_of,
    cut,
    make,
    network,
    remove,
    save,
    without,
    write,
)

EVAL = f"eval recipe.yaml model.classification.pretrained={WEIGHTS}"
MIT = (
    "eval recipe.yaml model.classification.name=mobilevit model.classification.mit.mode=xx_small "
    "model.classification.pretrained=w.pt"
)


def normalised(folder: Path) -> None:
    """Save weights of the tiny network that were trained on normalised images."""
    weights = torch.load(folder / WEIGHTS, weights_only=True)
    about = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "channel_order": "RGB"}
    weights._metadata["cvnets"] = {"format": 2, "preprocessing": about}
    torch.save(weights, folder / "w.pt")


class RunsCode:
    """What a hostile file holds: unpickling it would call os.system."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


WEIGHTS_CASES = [
    Case("evaluation without weights", words="eval recipe.yaml"),
    Case("no such file", words="eval recipe.yaml model.classification.pretrained=w.pt"),
    Case("no such file, for finetuning", words="train recipe.yaml common.finetune=w.pt"),
    Case("no such checkpoint", words="eval w.pt"),
    Case("a truncated file", words=EVAL, after_run=True, prepare=cut(WEIGHTS, 0.5)),
    Case("a file of something else", words=EVAL, prepare=write(WEIGHTS, "<html>404</html>")),
    Case(
        "another number of classes",
        words=EVAL,
        after_run=True,
        prepare=all_of(remove("data/train/c"), remove("data/val/c")),
    ),
    Case(
        "weights of another network",
        words=EVAL,
        prepare=all_of(make("results/run"), save(WEIGHTS, {"conv_1.weight": torch.zeros(1)})),
    ),
    Case(
        "a file that would run code",
        words=EVAL,
        prepare=all_of(make("results/run"), save(WEIGHTS, {"a": RunsCode()})),
    ),
    Case(
        "a checkpoint without a recipe",
        words="eval w.pt",
        prepare=save("w.pt", {"a": torch.zeros(1)}),
    ),
    Case("MobileViT weights that do not say whether they saw RGB", words=MIT, prepare=network()),
    Case(
        "a source that cannot be",
        words=f"{MIT} model.weights_source=torchvision",
        prepare=network(),
    ),
    Case(
        "a source that does not exist",
        words=f"{MIT} model.weights_source=cvnets",
        prepare=network(),
    ),
    Case(
        "two entries are missing",
        words=f"{MIT} model.weights_source=cvnets-main",
        prepare=network(without("layer_1.0.block.red_1x1.block.norm.bias", "conv_1.block.conv")),
    ),
    Case(
        "the weights of another size",
        words=f"{MIT} model.weights_source=cvnets-main model.classification.mit.mode=small",
        prepare=network(),
    ),
    Case(
        "scopes that leave most of the backbone random",
        words=f"{MIT} model.weights_source=cvnets-main model.resume_exclude_scopes=layer_5.*",
        prepare=network(),
    ),
    Case(
        "the weights of a detector in an evaluation",
        words=f"{MIT} model.weights_source=cvnets-main",
        prepare=network(without("classifier", "conv_1x1_exp"), "encoder."),
    ),
    Case(
        "weights that saw other images than the recipe feeds",
        words="train recipe.yaml model.classification.pretrained=w.pt common.run_label=b",
        after_run=True,
        prepare=normalised,
    ),
    Case("converting over a file", words="convert w.pt w.pt", prepare=network()),
    Case("converting to an unknown ending", words="convert w.pt w.onnx", prepare=network()),
    Case(
        "converting to a library that lacks the network",
        words="convert w.pt x.pt --to torchvision",
        prepare=network(),
    ),
    Case(
        "checking on data of other classes",
        words="check w.pt --data data",
        prepare=network(),
    ),
    Case(
        "a folder for a checkpoint",
        words="eval recipe.yaml model.classification.pretrained=data",
    ),
]
