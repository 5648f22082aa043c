"""What a recipe was published to reach: printed, compared, and its batch made on any machine."""

import json
import logging

import pytest

from config.errors import UserError
from engine import evaluate, load_recipe, train
from engine.expected import ExpectedOptions, compared, described, micro_batches
from engine.settings import CommonOptions

MANY = {"samples": 10**6, "validated": 50000}


def test_a_figure_is_compared_within_its_tolerance():
    expected = ExpectedOptions(metric="top1", value=70.0, tolerance=0.5, source="table 1")
    assert compared(expected, {"top1": 69.6})["reached"] is True
    assert compared(expected, {"top1": 70.6})["reached"] is False
    found = compared(expected, {"top1": 69.0, "loss": 1.0})
    assert found["text"] == "top1 69, expected 70: 1.00 below, outside the tolerance of 0.5"
    assert json.loads(json.dumps(found))["measured"] == 69.0
    assert compared(expected, {"loss": 1.0}) is None
    assert compared(ExpectedOptions(), {"top1": 1.0}) is None


def test_figures_of_other_images_are_not_compared():
    expected = ExpectedOptions(metric="iou", value=79.0, images=1449)
    found = compared(expected, {"iou": 20.0}, images=200)
    assert (
        found["reached"] is None and "200 images, the expected figure is of 1449" in found["text"]
    )
    assert compared(expected, {"iou": 79.1}, images=1449)["reached"] is True


def test_the_figure_and_a_shorter_training_are_told_before_it_starts():
    expected = ExpectedOptions(
        metric="top1", value=78.4, source="the paper", epochs=300, input_size=(256, 192)
    )
    assert described(expected, 10) == [
        "expected: top1 78.4 +- 0.3 (at 256x192 pixels, after 300 epochs, the paper)",
        "this run has 10 epochs, the expected figure 300",
    ]
    assert described(ExpectedOptions(epochs=3), 10) == []


@pytest.mark.parametrize(
    ("effective", "batch", "accumulated", "processes", "solved"),
    [
        (1024, 128, 1, 8, None),  # as published
        (1024, 128, 1, 2, 8),
        (1024, 128, 4, 2, None),  # accumulated by hand
        (1024, 128, 1, 16, 8),
        (100, 32, 1, 1, 3),  # the nearest
        (16, 64, 1, 1, 1),
        (None, 64, 1, 3, None),
    ],
)
def test_micro_batches_make_the_effective_batch(effective, batch, accumulated, processes, solved):
    expected = ExpectedOptions(effective_batch=effective)
    assert (
        micro_batches(expected, CommonOptions(accum_freq=accumulated), batch, processes, **MANY)
        == solved
    )


def test_other_data_keep_their_batch(caplog):
    """Told by the images of the validation: the recipe was taken for another data set."""
    expected = ExpectedOptions(effective_batch=1024, images=50000)
    theirs = {"samples": 1000, "validated": 33}
    with caplog.at_level(logging.INFO):
        assert micro_batches(expected, CommonOptions(), 32, 1, **theirs) is None
    assert "effective batch 32, the recipe expects 1024; these are other data" in caplog.text
    assert micro_batches(expected, CommonOptions(), 32, 1, **MANY) == 32
    without = {"samples": 10**6, "validated": None}
    assert micro_batches(expected, CommonOptions(), 32, 1, **without) == 32


def test_no_step_is_larger_than_the_data(caplog):
    few = {"samples": 30, "validated": None}
    with caplog.at_level(logging.INFO):
        expected = ExpectedOptions(effective_batch=1024)
        assert micro_batches(expected, CommonOptions(), 8, 1, **few) == 3
        assert micro_batches(expected, CommonOptions(), 64, 1, **few) == 1
    assert "24 is the nearest that 30 images can make" in caplog.text


def test_another_batch_may_be_told_or_refused(caplog):
    expected = ExpectedOptions(effective_batch=64)
    with caplog.at_level(logging.INFO):
        assert micro_batches(expected, CommonOptions(batch_policy="report"), 8, 2, **MANY) is None
    assert "effective batch 16, the recipe expects 64" in caplog.text
    with pytest.raises(UserError, match=r"^expected\.effective_batch: 64, but 2 process"):
        micro_batches(expected, CommonOptions(batch_policy="refuse"), 8, 2, **MANY)


def test_a_run_takes_as_many_steps_as_its_effective_batch_makes(tiny_recipe, caplog):
    """72 images in steps of 3 x 8 of the base size; the figure is compared at the end."""
    expected = {
        "expected.effective_batch": 24,
        "expected.metric": "top1",
        "expected.value": 100.0,
        "expected.tolerance": 100.0,
        "sampler.name": "batch_sampler",
        "sampler.bs.crop_size_width": 32,
        "sampler.bs.crop_size_height": 32,
    }
    with caplog.at_level(logging.INFO):
        summary = train(load_recipe(tiny_recipe | expected))
    assert summary["steps"] == 2 * 72 // 24
    assert (
        "effective batch 24: 3 micro-batches of 8 images per step, on 1 process(es)" in caplog.text
    )
    assert "best checkpoint of the model: top1" in caplog.text
    weights = {"model.classification.pretrained": f"{summary['run']}/checkpoint_best.pt"}
    report = evaluate(load_recipe(tiny_recipe | expected | weights))
    assert report["expected"]["reached"] is True
    assert report["expected"]["measured"] == report["metrics"]["top1"]
