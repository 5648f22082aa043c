"""Segmentation end to end: training, evaluation, its promises on any number of processes."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

import engine
from config.errors import UserError
from cvnets.models.dense import SegmentationOutput
from data.datasets.segmentation.masks import read_mask
from engine.metrics.iou_report import Confusion
from engine.metrics.mean_iou import MeanIou, MeanIouOptions, confusion
from engine.metrics.metric import Observation
from loss_fn.output import LossOutput

TRACES = Path(__file__).parents[1] / "reference" / "traces" / "metrics.json"
CASES = [c for c in json.loads(TRACES.read_text())["cases"] if c["kind"] == "iou"]
FLOAT64 = {"common.parameter_dtype": "float64"}
NO_STATISTICS = FLOAT64 | {"model.normalization.name": "group_norm"}
NO_STATISTICS |= {
    "model.segmentation.deeplabv3.aspp_dropout": 0.0,
    "model.segmentation.aux_dropout": 0,
}
EVALUATION = "evaluations/checkpoint_best/evaluation.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder: a network trained for two epochs."""
    made: dict[str, Path] = {}

    def train(recipe: dict) -> Path:
        if not made:
            folder = tmp_path_factory.mktemp("trained")
            engine.train(engine.load_recipe(recipe | {"common.results_loc": str(folder)}))
            made["run"] = folder / "run"
        return made["run"]

    return train


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


# --- training and what it leaves behind ----------------------------------------------------------


def test_a_run_leaves_checkpoints_and_reports(trained, segmentation_recipe):
    run = trained(segmentation_recipe)
    summary = json.loads((run / "summary.json").read_text())
    assert {"iou", "iou.pixel_accuracy", "iou.class_accuracy", "loss"} <= set(summary)
    for name in ("best/confusion_matrix.png", "predictions.png", "curves.png"):
        assert cv2.imread(str(run / name)) is not None
    rows = list(csv.DictReader((run / "best/per_class.csv").read_text().splitlines()))
    assert len(rows) == 21 and rows[0]["name"] == "background" and rows[20]["IoU"] == ""
    matrix = np.array(
        list(csv.reader((run / "best/confusion_matrix.csv").read_text().splitlines()))
    )[1:, 1:]
    figures = Confusion(matrix.astype(np.int64)).figures(False)
    assert figures["pixel_accuracy"] == pytest.approx(summary["iou.pixel_accuracy"])
    assert figures[""] == pytest.approx(summary["iou"])
    state = torch.load(run / "checkpoint_best.pt", weights_only=True)
    assert "seg_head.aspp.aspp_layer.convs.0.block.conv.weight" in state
    metadata = state._metadata["cvnets"]
    assert metadata["classes"][:2] == ["background", "aeroplane"]
    assert metadata["mask_values"] == list(range(21))


def test_mean_iou_is_that_of_scikit_learn_on_the_predictions(
    trained, segmentation_recipe, voc_folder, tmp_path, command
):
    """From the pictures in their files to the mean over classes, on 1, 2 and 3 processes."""
    best = trained(segmentation_recipe) / "checkpoint_best.pt"
    predictor = engine.load(best, ["evaluation.segmentation.resize_input_images_fixed_size=true"])
    names = [
        line.split() for line in (voc_folder / "VOC2012/list/val.txt").read_text().splitlines()
    ]
    found, truth = [], []
    for image, mask in names:
        values = read_mask(voc_folder / "VOC2012" / mask.lstrip("/"))
        predicted = predictor.predict(voc_folder / "VOC2012" / image.lstrip("/")).mask
        assert predicted.shape == values.shape
        counted = values != 255
        assert 0 < counted.sum() < counted.size
        found.append(predicted[counted])
        truth.append(values[counted])
    found, truth = np.concatenate(found), np.concatenate(truth)
    occurring = np.union1d(found, truth)
    expected = 100 * jaccard_score(truth, found, labels=occurring, average="macro")
    reports = []
    for processes in (1, 2, 3):
        words = ["evaluation.segmentation.resize_input_images_fixed_size=true"]
        words += [f"common.results_loc={tmp_path}", f"common.run_label=eval{processes}"]
        done = command("eval", best, *words, processes=processes)
        assert "evaluated 19 of 19 unique images" in done.stdout
        assert f"{21 - len(occurring)} classes do not occur" in done.stdout
        report = json.loads((tmp_path / f"eval{processes}" / EVALUATION).read_text())
        reports.append(report["metrics"])
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["iou"] == pytest.approx(expected, rel=1e-12)
    assert reports[0]["iou.pixel_accuracy"] == pytest.approx(100 * (found == truth).mean())


def test_training_is_the_same_for_one_and_two_processes(
    segmentation_recipe, as_command, command, tmp_path
):
    recipe = segmentation_recipe | NO_STATISTICS
    recipe |= {"dataset.train_batch_size0": 2, "stats.checkpoint_metric": "loss"}
    recipe |= {"stats.val": ["loss"], "stats.checkpoint_metric_max": False}
    command(*as_command(recipe), "common.run_label=two", processes=2)
    command(*as_command(recipe), "common.run_label=one", "common.accum_freq=2")
    one, two = losses(tmp_path / "results/one"), losses(tmp_path / "results/two")
    assert len(one) >= 10
    torch.testing.assert_close(one, two, rtol=1e-9, atol=0)


@pytest.mark.parametrize("batch", [1, 7, 19])
def test_the_batch_size_of_evaluation_changes_nothing(
    batch, trained, segmentation_recipe, tmp_path
):
    best = trained(segmentation_recipe) / "checkpoint_best.pt"
    words = {"evaluation.segmentation.resize_input_images_fixed_size": True}
    words |= {"model.segmentation.pretrained": str(best), "dataset.eval_batch_size0": batch}
    report = engine.evaluate(engine.load_recipe(segmentation_recipe | FLOAT64 | words))
    summary = json.loads((best.parent / "summary.json").read_text())
    assert report["images"] == 19
    for name in ("iou", "loss", "iou.pixel_accuracy"):  # of float32, in batches of 7
        assert report["metrics"][name] == pytest.approx(summary[name], rel=2e-4), name


def test_frozen_batch_norms_do_not_change(segmentation_recipe, tmp_path):
    words = {"model.segmentation.freeze_batch_norm": True, "scheduler.max_epochs": 1}
    recipe = engine.load_recipe(segmentation_recipe | words)
    given = words | {"model.segmentation.n_classes": 21}
    before = engine.build_model(engine.load_recipe(segmentation_recipe | given)).state_dict()
    engine.train(recipe)
    after = torch.load(tmp_path / "results/run/checkpoint_last.pt", weights_only=True)
    norms = [key for key in after if ".norm." in key]
    assert len(norms) > 100
    for key in norms:
        assert torch.equal(after[key], before[key]), key
    assert not torch.equal(
        after["seg_head.classifier.block.conv.weight"],
        before["seg_head.classifier.block.conv.weight"],
    )


def test_the_head_learns_at_its_own_rate(segmentation_recipe, tmp_path):
    engine.train(engine.load_recipe(segmentation_recipe | {"scheduler.max_epochs": 1}))
    state = torch.load(tmp_path / "results/run/training_checkpoint_last.pt", weights_only=True)
    groups = state["optim_state_dict"]["param_groups"]
    assert [group["lr_multiplier"] for group in groups] == [1.0, 4.0]
    assert groups[1]["lr"] == pytest.approx(4 * groups[0]["lr"])


def test_evaluation_with_several_passes(trained, segmentation_recipe):
    """Flipped, at two scales, through windows: other numbers, each image still counted once."""
    best = trained(segmentation_recipe) / "checkpoint_best.pt"
    found = []
    for words in (
        {},
        {"evaluation.segmentation.flip": True},
        {"evaluation.segmentation.scales": [0.75, 1.0]},
        {"evaluation.segmentation.sliding_window": 64},
    ):
        words = words | {"model.segmentation.pretrained": str(best)}
        report = engine.evaluate(engine.load_recipe(segmentation_recipe | words))
        assert report["images"] == 19
        found.append(report["metrics"]["loss"])
    assert len(set(found)) == 4 and all(map(math.isfinite, found))


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            {"model.segmentation.n_classes": 20},
            "model.segmentation.n_classes: 20 in the recipe, but dataset.root_train has 21 classes; "
            "set it to 21, or to null to count them",
        ),
        (
            {"model.segmentation.name": None},
            "model.segmentation.name: dataset.category is segmentation, so a network is needed; set "
            "it to encoder_decoder",
        ),
        (
            {"dataset.eval_batch_size0": 4},
            "dataset.eval_batch_size0: images keep their aspect ratio in evaluation, so they cannot "
            "share a batch; set it to 1, or evaluation.segmentation.resize_input_images_fixed_size "
            "to true",
        ),
        (
            {"dataset.train_batch_size0": 1, "sampler.name": "batch_sampler"},
            "dataset.train_batch_size0: with one image in a batch, the batch norm behind the pooling "
            "of deeplabv3 has a single number to learn from; set it to 2 or more, or "
            "model.segmentation.freeze_batch_norm to true",
        ),
    ],
)
def test_a_mistake_is_one_line(words, text, segmentation_recipe):
    with pytest.raises(UserError) as caught:
        engine.train(engine.load_recipe(segmentation_recipe | words))
    assert str(caught.value) == text


def test_a_norm_that_cannot_normalise_what_is_pooled_is_refused(segmentation_recipe):
    with pytest.raises(
        UserError, match=r"model\.normalization\.name: the pooling of deeplabv3 makes"
    ):
        engine.train(
            engine.load_recipe(segmentation_recipe | {"model.normalization.name": "instance_norm"})
        )


def test_the_loss_must_be_that_of_the_task(segmentation_recipe):
    with pytest.raises(UserError, match=r"loss\.category: detection, but the task is segmentation"):
        engine.load_recipe(segmentation_recipe | {"loss.category": "detection"})


def test_a_network_without_auxiliary_head_takes_weights_with_one(
    trained, segmentation_recipe, caplog
):
    best = trained(segmentation_recipe) / "checkpoint_best.pt"
    words = {"model.segmentation.use_aux_head": False, "dataset.train_batch_size0": 1}
    words |= {"model.segmentation.pretrained": str(best)}
    caplog.set_level("INFO")
    report = engine.evaluate(engine.load_recipe(segmentation_recipe | words))
    whole = engine.load(best)
    assert report["images"] == 19
    assert "seg_head.aux_head" in caplog.text
    assert any("aux_head" in name for name, _ in whole.model.named_parameters())


@pytest.mark.parametrize("stride", [8, 16])
def test_batches_of_one_train_with_frozen_norms(stride, segmentation_recipe):
    words = {"dataset.train_batch_size0": 1, "sampler.name": "batch_sampler"}
    words |= {"sampler.bs.crop_size_width": 64, "sampler.bs.crop_size_height": 64}
    words |= {"model.segmentation.output_stride": stride, "scheduler.max_epochs": 1}
    words |= {"model.segmentation.freeze_batch_norm": True}
    summary = engine.train(engine.load_recipe(segmentation_recipe | words))
    assert math.isfinite(summary["loss"])


# --- the metric ----------------------------------------------------------------------------------


def drawn(case: dict):
    """The batches of a case of the reference, as its `gen` says: logits and masks."""
    for batch in range(case["batches"]):
        g = np.random.default_rng(case["seed"] + batch)
        n, c, h, w = (case[key] for key in "nchw")
        logits = g.standard_normal((n, c, h, w))
        mask = g.integers(0, c - 2 if case["absent"] else c, (n, h, w))
        mask[:, 0, :] = 255
        mask = np.where(g.random((n, h, w)) < 0.6, logits.argmax(1), mask)
        if case["absent"]:
            mask = np.where(mask >= c - 2, 0, mask)
            logits[:, c - 1] -= 100
        mask[:, 0, :] = 255
        yield torch.from_numpy(logits), torch.from_numpy(mask).to(torch.uint8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_official_values(case):
    """In training: at the size of the mask; classes that never occur count as 0, as there."""
    metric = MeanIou(MeanIouOptions(absent_classes="zero"))
    for logits, mask in drawn(case):
        output = SegmentationOutput(logits, None, tuple(mask.shape[1:]))
        loss = LossOutput(torch.tensor(0.0))
        metric.update(Observation(output, {"mask": mask}, loss, len(mask), training=True))
    state = metric.state()
    assert metric.result([state])[""] == pytest.approx(case["miou_percent"], rel=1e-5)
    matrix = Confusion(np.array(state))
    if case["batches"] == 1:
        union = matrix.true + matrix.predicted - np.diag(state)
        assert np.diag(state).tolist() == case["per_batch"][0]["inter"]
        np.testing.assert_allclose(union, case["per_batch"][0]["union"], atol=1e-6)


def test_the_matrix_by_hand():
    truth = torch.tensor([[0, 0, 1], [2, 255, 1]], dtype=torch.uint8)
    found = torch.tensor([[0, 1, 1], [2, 2, 0]], dtype=torch.uint8)
    counts = confusion(found, truth, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    matrix = Confusion(counts.numpy())
    assert matrix.figures(False) == pytest.approx(
        {"": 100 * (1 / 3 + 1 / 3 + 1) / 3, "pixel_accuracy": 60, "class_accuracy": 200 / 3}
    )
    assert matrix.figures(True)[""] == pytest.approx(100 * (1 / 3 + 1 / 3 + 1) / 4)


def test_states_merge_whoever_counted_and_go_on_after_one_was_taken():
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(4, (2, 9, 7), generator=generator, dtype=torch.uint8) for _ in range(6)]

    def counted(some):
        metric = MeanIou(MeanIouOptions())
        for found, truth in some:
            output = SegmentationOutput(torch.zeros(1, 4, 3, 3), None, (9, 7))
            loss, targets = LossOutput(torch.tensor(0.0)), {"truth": [truth]}
            metric.update(Observation(output, targets, loss, 1, predictions=[found]))
            metric.state()
        return metric

    whole, empty = counted(pairs), counted([])
    parts = [counted(pairs[:1]), empty, counted(pairs[1:])]
    states = [part.state() for part in parts]
    assert whole.result([whole.state()]) == whole.result(states)
    assert math.isnan(empty.result([empty.state()])[""])
