"""The papers' networks learn the generated set with one recipe; their weights start a finetuning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
NETWORKS = {
    "v1": [],
    "v2": ["mobilevit_v2", "mitv2.width_multiplier=0.5"],
    "v3": ["mobilevit_v3", "mit.mode=xx_small_v3"],
    "v3_on_v2": ["mobilevit_v3", "mit=null", "mitv3.width_multiplier=0.5"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture
def train(place, command):
    """Train by the demo's recipe below `place`, where the shapes are; the last lines of its history."""

    def run(label: str, *words: str) -> list[dict]:
        if not (place / "results/shapes").exists():
            command("shapes", "--layout", "imagefolder", "--out", "results/shapes", cwd=place)
        run = ["train", "demo/classification", f"common.run_label={label}", *words]
        done = command(*run, cwd=place, timeout=1500)
        (place / f"{label}.txt").write_text(done.stdout)
        lines = (place / f"results/{label}/metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return [r for r in records if r.get("stage") == "Val"]

    return run


@pytest.mark.parametrize("name", NETWORKS)
def test_every_generation_learns_the_shapes_with_the_same_recipe(train, name):
    network = [f"model.classification.{word}" for word in NETWORKS[name][1:]]
    network += [f"model.classification.name={word}" for word in NETWORKS[name][:1]]
    assert max(record["metrics"]["top1"] for record in train(name, *network)) >= 90


def test_finetuning_to_other_classes_converges_in_fewer_steps(train, place):
    """Five of the eight shapes: epochs until 90 % from the weights of the eight, and from scratch."""
    weights = place / "results/v1/checkpoint_best.pt"
    if not weights.exists():
        train("v1")
    for split in ("train", "val"):
        for folder in sorted((place / "results/shapes" / split).iterdir())[:5]:
            shutil.copytree(folder, place / "five" / split / folder.name, dirs_exist_ok=True)
    data = [f"dataset.root_{split}=five/{split}" for split in ("train", "val")]
    data += ["scheduler.max_epochs=6", "scheduler.warmup_iterations=20"]
    tuned = train("tuned", *data, f"model.classification.pretrained={weights}")
    scratch = train("scratch", *data)
    told = " ".join((place / "tuned.txt").read_text().split())
    assert "loaded 309 of 311 entries, 100.0 % of the elements outside the head" in told
    assert (
        "re-initialised classifier.fc.weight here (5, 320), in the file (8, 320): another" in told
    )

    def epochs(records: list[dict]) -> int:
        reached = [r["metrics"]["top1"] >= 90 for r in records]
        return reached.index(True) + 1 if any(reached) else len(reached) + 1

    assert epochs(tuned) == 1 or epochs(tuned) < epochs(scratch) / 2
