"""The pictures that `main_eval.py` writes of every image that it measures on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import engine
from config.errors import UserError
from cvnets.weights.files import METADATA
from engine.checkpoint import save_weights
from engine.parts import build_task, weights_metadata

KEYS = ("save_masks", "apply_color_map", "save_overlay_rgb_pred")
WRITTEN = {f"evaluation.segmentation.{key}": True for key in KEYS}
FOLDERS = {"predictions_no_cmap", "predictions_cmap", "predictions_overlay", "rgb_images"}


@pytest.fixture
def recipe(segmentation_recipe, tmp_path) -> dict:
    """With weights that see many classes: of a network that has learned nothing."""
    torch.manual_seed(3)
    task = build_task(engine.load_recipe(segmentation_recipe))
    task.build_source("val")
    model = task.build_model()
    torch.nn.init.normal_(model.seg_head.classifier.block.conv.weight, std=2.0)
    save_weights(tmp_path / "w.pt", model, weights_metadata(task))
    return segmentation_recipe | {"model.segmentation.pretrained": str(tmp_path / "w.pt")}


def values(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def content(folder: Path) -> dict[str, bytes]:
    found = (path for name in (*FOLDERS, "gt_cmap") for path in (folder / name).rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_masks_give_the_figure_that_is_reported(recipe, voc_folder, tmp_path):
    report = engine.evaluate(engine.load_recipe(recipe | WRITTEN))
    run, base = tmp_path / "results/run", voc_folder / "VOC2012"
    matrix = np.zeros((21, 21), np.int64)
    for line in (base / "list/val.txt").read_text().splitlines():
        image, mask = (base / word.lstrip("/") for word in line.split())
        truth, found = values(mask), values(run / f"predictions_no_cmap/{image.stem}.png")
        counted = truth != 255
        np.add.at(matrix, (truth[counted], found[counted]), 1)
        colours = values(run / f"gt_cmap/{image.stem}.png")
        assert (colours[truth == 0] == 0).all()
        assert (colours[truth == 6] == (0, 128, 128)).all()
        assert (colours[truth == 255] == (224, 224, 192)).all()
        shown = values(run / f"rgb_images/{image.stem}.jpg").astype(int)
        assert np.abs(shown - values(image)).mean() < 8  # JPEG
    unions = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
    there = unions > 0
    assert there.sum() > 9
    expected = 100 * (np.diag(matrix)[there] / unions[there]).mean()
    assert report["metrics"]["iou"] == pytest.approx(expected, rel=1e-12)
    assert {name.split("/")[0] for name in content(run)} == FOLDERS | {"gt_cmap"}
    assert len(content(run)) == 19 * 5


def test_every_process_writes_its_images(recipe, as_command, command, tmp_path):
    words = ["eval", *as_command(recipe, **WRITTEN)[1:]]
    for processes in (1, 2):
        command(*words, f"common.run_label=run{processes}", processes=processes)
    one, two = (content(tmp_path / f"results/run{processes}") for processes in (1, 2))
    assert len(one) == 19 * 5
    assert one == two


def test_nothing_is_replaced_and_nothing_measured_then(recipe, tmp_path):
    taken = tmp_path / "results/run/predictions_no_cmap/2008_000003.png"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"2008_000003\.png: is there already; remove it"):
        engine.evaluate(engine.load_recipe(recipe | WRITTEN))
    assert content(tmp_path / "results/run") == {"predictions_no_cmap/2008_000003.png": b"mine"}
    assert not (tmp_path / "results/run/evaluations").exists()


def test_only_what_is_asked_for_is_written(recipe, tmp_path):
    masks = {"evaluation.segmentation.save_masks": True}
    engine.evaluate(engine.load_recipe(recipe | masks))
    found = content(tmp_path / "results/run")
    assert {name.split("/")[0] for name in found} == {"predictions_no_cmap"}


def test_training_and_plain_evaluation_write_none(recipe, tmp_path):
    run = tmp_path / "results/run"
    engine.evaluate(engine.load_recipe(recipe))
    assert json.loads((run / "evaluations/w/evaluation.json").read_text())["images"] == 19
    assert content(run) == {}
    short = {"scheduler.max_epochs": 1, "model.segmentation.pretrained": None}
    engine.train(engine.load_recipe(recipe | WRITTEN | short))
    assert content(run) == {}


@pytest.mark.parametrize(
    ("classes", "value", "first"), [(21, 0, "background"), (150, 1, "wall"), (7, 0, "0")]
)
def test_weights_without_metadata_and_data_have_the_classes_of_a_data_set_of_so_many(
    classes, value, first, segmentation_recipe, tmp_path
):
    """Official weights say nothing of classes; masks of ADE20K begin with 1."""
    recipe = segmentation_recipe | {"model.segmentation.n_classes": classes}
    recipe |= {"dataset.root_train": "gone", "dataset.root_val": "gone"}
    state = engine.build_model(engine.load_recipe(recipe)).state_dict()
    assert METADATA not in state._metadata
    torch.save(state, tmp_path / "bare.pt")
    given = recipe | {"model.segmentation.pretrained": str(tmp_path / "bare.pt")}
    task = build_task(engine.load_recipe(given))
    task.build_model()
    assert task.labels.names[0] == task.class_names[0] == first
    assert task.labels.raw == tuple(range(value, value + classes))
