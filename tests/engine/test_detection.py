"""Detection from a recipe to its results: one process and several, any batch size, mistakes."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import engine
from config.errors import UserError
from data.datasets.shapes import CLASSES
from data.datasets.shapes.layouts import COCO_IDS

EVALUATION = "evaluations/checkpoint_best/evaluation.json"
FLOAT64 = {"common.parameter_dtype": "float64", "model.normalization.name": "group_norm"}


def load(recipe: dict, **changes) -> engine.recipe.Recipe:
    given = {**recipe, **changes}
    ratios = "anchor_generator.ssd.aspect_ratios"
    return engine.load_recipe({**given, ratios: json.loads(given[ratios])})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, coco_folder):
    """A run folder: a detector in float64, trained for two epochs."""
    made: dict[str, Path] = {}

    def train(recipe: dict) -> Path:
        if not made:
            folder = tmp_path_factory.mktemp("trained")
            engine.train(load(recipe | FLOAT64, **{"common.results_loc": str(folder)}))
            made["run"] = folder / "run"
        return made["run"]

    return train


def directly(annotations: Path, results: Path) -> np.ndarray:
    """The twelve numbers of pycocotools on the files."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


# --- training and what it leaves behind ----------------------------------------------------------


def test_a_run_leaves_checkpoints_and_reports(trained, detection_recipe, coco_folder):
    run = trained(detection_recipe)
    summary = json.loads((run / "summary.json").read_text())
    assert {"coco_map.bbox", "loss", "loss.reg_loss", "loss.cls_loss"} <= set(summary)
    for name in ("detections.json", "per_class.csv", "precision_recall.png"):
        assert (run / "best" / name).stat().st_size > 0
    rows = (run / "best/per_class.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1 : len(CLASSES) + 1]] == list(CLASSES)
    assert cv2.imread(str(run / "predictions.png")) is not None
    state = torch.load(run / "checkpoint_best.pt", weights_only=True)
    assert "encoder.conv_1.block.conv.weight" in state
    assert state._metadata["cvnets"]["category_ids"] == list(COCO_IDS)


def test_metrics_equal_pycocotools_on_the_saved_results_for_one_and_two_processes(
    trained, detection_recipe, coco_folder, command, tmp_path
):
    best = trained(detection_recipe) / "checkpoint_best.pt"
    annotations = coco_folder / "annotations/instances_val2017.json"
    found = []
    for processes in (1, 2):
        place = [f"common.results_loc={tmp_path}", f"common.run_label=eval{processes}"]
        done = command("eval", best, *place, processes=processes)
        assert "evaluated 19 of 19 unique images" in done.stdout
        report = tmp_path / f"eval{processes}" / EVALUATION
        found.append(json.loads(report.read_text())["metrics"])
        stats = directly(annotations, report.parent / "detections.json")
        assert found[-1]["coco_map.bbox"] == 100 * stats[0]
        assert found[-1]["coco_map.bbox_50"] == 100 * stats[1]
    assert found[0] == found[1]
    assert found[0]["coco_map.bbox"] > 0


@pytest.mark.parametrize(("dtype", "allowed"), [("float64", 0.0), ("float32", 0.01)])
def test_the_batch_size_of_evaluation_changes_nothing(
    dtype, allowed, trained, detection_recipe, tmp_path
):
    best = trained(detection_recipe) / "checkpoint_best.pt"
    reports = []
    for batch in (1, 7, 32):
        words = {"dataset.eval_batch_size0": batch, "common.run_label": f"{dtype}_{batch}"}
        words |= {"model.detection.pretrained": str(best)}
        recipe = load(detection_recipe | FLOAT64 | {"common.parameter_dtype": dtype}, **words)
        reports.append(engine.evaluate(recipe))
    assert [report["images"] for report in reports] == [19, 19, 19]
    files = [Path(report["folder"]) / "detections.json" for report in reports]
    ids = [{row["image_id"] for row in json.loads(file.read_text())} for file in files]
    assert ids[0] == ids[1] == ids[2]
    values = [report["metrics"]["coco_map.bbox"] for report in reports]
    assert max(values) - min(values) <= allowed
    losses = [report["metrics"]["loss"] for report in reports]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4 if allowed else 1e-12)


def test_training_is_the_same_for_one_and_two_processes(
    detection_recipe, as_command, command, coco_folder, tmp_path
):
    """Float64 without batch norm; some images have nothing but a crowd, so no object to learn."""
    root = shutil.copytree(coco_folder, tmp_path / "coco")
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    bare = {image["id"] for image in content["images"][:9]}
    for annotation in content["annotations"]:
        annotation["iscrowd"] |= int(annotation["image_id"] in bare)
    path.write_text(json.dumps(content))
    recipe = (
        detection_recipe
        | FLOAT64
        | {"dataset.root_train": str(root), "dataset.root_val": str(root)}
    )
    recipe |= {"dataset.train_batch_size0": 2, "stats.checkpoint_metric": "loss"}
    recipe |= {"stats.val": ["loss"], "stats.checkpoint_metric_max": False}
    command(*as_command(recipe), "common.run_label=two", processes=2)
    command(*as_command(recipe), "common.run_label=one", "common.accum_freq=2")
    one, two = losses(tmp_path / "results/one"), losses(tmp_path / "results/two")
    assert len(one) >= 10
    torch.testing.assert_close(one, two, rtol=1e-9, atol=0)


# --- weights -------------------------------------------------------------------------------------


def test_the_backbone_starts_from_a_classifier(detection_recipe, image_folder, tmp_path, caplog):
    classifier = {
        k: v for k, v in detection_recipe.items() if "classification" in k or "common" in k
    }
    classifier |= {"dataset.root_train": str(image_folder / "train"), "scheduler.max_epochs": 1}
    classifier |= {"dataset.root_val": str(image_folder / "val"), "common.run_label": "classifier"}
    classifier |= {"sampler.bs.crop_size_width": 32, "sampler.bs.crop_size_height": 32}
    classifier |= {"dataset.workers": 0, "image_augmentation.center_crop.size": 32}
    engine.train(engine.load_recipe(classifier))
    weights = tmp_path / "results/classifier/checkpoint_last.pt"
    caplog.set_level("INFO")
    words = {"model.detection.n_classes": 9, "model.classification.pretrained": str(weights)}
    model = engine.build_model(load(detection_recipe, **words))
    state = torch.load(weights, weights_only=True)
    encoder = model.encoder.state_dict()
    assert len(encoder) > 100
    for key, value in encoder.items():
        assert torch.equal(value, state[key]), key
    assert f"loaded          {len(encoder)} of {len(encoder)} entries, 100.0 %" in caplog.text
    assert "re-initialised" not in caplog.text


def test_a_detector_of_other_classes_starts_with_new_predictions(trained, detection_recipe, caplog):
    best = trained(detection_recipe) / "checkpoint_best.pt"
    caplog.set_level("INFO")
    words = {"model.detection.n_classes": 3, "model.detection.pretrained": str(best)}
    model = engine.build_model(load(detection_recipe | FLOAT64, **words))
    state = torch.load(best, weights_only=True)
    new = [k for k, value in model.state_dict().items() if value.shape != state[k].shape]
    assert new == [
        *(
            f"ssd_heads.{i}.loc_cls_layer.pw_conv.block.conv.{e}"
            for i in range(3)
            for e in ("weight", "bias")
        ),
        *(f"ssd_heads.3.loc_cls_layer.block.conv.{e}" for e in ("weight", "bias")),
    ]
    assert caplog.text.count("re-initialised") == len(new)
    kept = [key for key in state if key not in new]
    for key in kept:
        assert torch.equal(model.state_dict()[key], state[key].float()), key


def test_predictions_of_a_checkpoint(trained, detection_recipe, coco_folder):
    predictor = engine.load(trained(detection_recipe) / "checkpoint_best.pt")
    assert predictor.class_names == CLASSES
    paths = sorted((coco_folder / "val2017").glob("*.jpg"))[:3]
    one = [predictor.predict(path) for path in paths]
    several = predictor.predict_batch(paths)
    for path, a, b in zip(paths, one, several, strict=True):
        height, width = cv2.imread(str(path)).shape[:2]
        np.testing.assert_allclose(a.boxes, b.boxes, rtol=1e-9)
        assert (a.boxes >= 0).all()
        assert (a.boxes <= [width, height, width, height]).all()
        assert (np.diff(a.scores) <= 0).all()
        assert set(a.category_ids) <= set(COCO_IDS)
        assert [CLASSES[COCO_IDS.index(i)] for i in a.category_ids] == list(a.labels)


def test_frozen_batch_norms_do_not_change(detection_recipe, tmp_path):
    words = {"model.detection.freeze_batch_norm": True, "scheduler.max_epochs": 1}
    recipe = load(detection_recipe, **words)
    from engine.parts import build_task

    task = build_task(recipe)
    task.build_source("train")
    torch.manual_seed(0)
    engine.train(recipe)
    after = torch.load(tmp_path / "results/run/checkpoint_last.pt", weights_only=True)
    norms = [key for key in after if ".norm." in key]
    assert len(norms) > 100
    for key in norms:  # as they are made: mean 0, variance 1, weight 1, bias 0
        expected = float(key.endswith(("running_var", "weight")))
        assert (after[key] == expected).all(), key
    changed = [key for key in after if key.endswith("conv.weight")]
    assert changed


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            {"model.detection.n_classes": 8},
            "model.detection.n_classes: 8 in the recipe, but dataset.root_train has 8 categories and "
            "the background counts as well; set it to 9, or to null to count them",
        ),
        (
            {"stats.train": ["loss", "coco_map"]},
            "stats.train: coco_map is measured in evaluation only; move it to stats.val",
        ),
        (
            {"model.detection.name": None, "dataset.category": "detection"},
            "model.detection.name: dataset.category is detection, so a detector is needed; set it to "
            "ssd",
        ),
        (
            {"evaluation.detection.resize_input_images": False},
            "evaluation.detection.resize_input_images: images keep their own sizes without it, so "
            "they cannot share a batch; set dataset.eval_batch_size0 to 1",
        ),
        (
            {"evaluation.detection.num_classes": 5, "model.detection.n_classes": 9},
            "evaluation.detection.num_classes: 5 in the recipe, but dataset.root_train has 8 "
            "categories and the background counts as well; set it to 9, or to null to count them",
        ),
        (
            {"model.normalization.name": "layer_norm", "model.detection.freeze_batch_norm": True},
            "model.detection.freeze_batch_norm: the network has no batch norm to freeze "
            "(model.normalization.name is layer_norm); set it to false",
        ),
    ],
)
def test_a_mistake_is_one_line(words, text, detection_recipe):
    with pytest.raises(UserError) as caught:
        engine.train(load(detection_recipe, **words))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"stats.val": ["coco_map", "top1"]}, "top1 measures classification, but the task is"),
        (
            {"stats.checkpoint_metric": "coco_map.ap"},
            "coco_map has no part 'ap'; choose one of coco_map",
        ),
    ],
)
def test_metrics_that_do_not_fit_are_named_before_anything_is_read(words, text, detection_recipe):
    with pytest.raises(UserError, match=text):
        load(detection_recipe, **words)


def test_a_network_that_gives_no_numbers_is_reported(
    trained, detection_recipe, coco_folder, caplog
):
    predictor = engine.load(trained(detection_recipe) / "checkpoint_best.pt")
    next(predictor.model.parameters()).data.fill_(math.nan)
    image = sorted((coco_folder / "val2017").glob("*.jpg"))[0]
    assert len(predictor.predict(image)) == len(predictor.predict(image)) == 0
    assert caplog.text.count("numbers that are not finite") == 1


def test_categories_that_differ_between_the_splits_are_named(
    detection_recipe, coco_folder, tmp_path
):
    root = shutil.copytree(coco_folder, tmp_path / "coco")
    path = root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "unlike"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"dataset\.root_val: its categories differ") as caught:
        engine.train(load(detection_recipe, **{"dataset.root_val": str(root)}))
    assert "unlike" in str(caught.value)
