"""What a recipe was published to reach: printed, compared, and its batch made on any machine."""

import json
import logging

import pytest

from config.errors import UserError
from engine import evaluate, load_recipe, train
from engine.effects import without_effect
from engine.expected import ExpectedOptions, compared, described, micro_batches
from engine.settings import CommonOptions

SOLVE = CommonOptions(batch_policy="solve")


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
    assert described(expected, 10, 50000) == [
        "expected: top1 78.4 +- 0.3 (at 256x192 pixels, after 300 epochs, the paper)",
        "this run has 10 epochs, the expected figure 300",
    ]
    assert described(ExpectedOptions(epochs=3), 10, None) == []
    other = ExpectedOptions(metric="top1", value=70.0, images=50000)
    assert described(other, 10, 33) == []


@pytest.mark.parametrize(
    ("effective", "batch", "processes", "solved"),
    [
        (1024, 128, 8, 8),  # as published
        (1024, 128, 2, 8),
        (1024, 128, 16, 8),
        (100, 32, 1, 3),  # the nearest
        (16, 64, 1, 1),
        (None, 64, 3, None),
    ],
)
def test_micro_batches_make_the_effective_batch(effective, batch, processes, solved):
    """The same for any number of processes."""
    expected = ExpectedOptions(effective_batch=effective)
    assert micro_batches(expected, SOLVE, batch, processes, 10**6) == solved


def test_no_step_is_larger_than_the_data(caplog):
    with caplog.at_level(logging.INFO):
        expected = ExpectedOptions(effective_batch=1024)
        assert [micro_batches(expected, SOLVE, 8, n, 30) for n in (1, 4, 128)] == [3, 3, 3]
        assert micro_batches(expected, SOLVE, 64, 1, 30) == 1
    assert "24 is the nearest that 30 images can make" in caplog.text


def test_another_batch_is_told_or_refused(caplog):
    expected = ExpectedOptions(effective_batch=64)
    with caplog.at_level(logging.WARNING):
        assert micro_batches(expected, CommonOptions(), 8, 8, 10**6) is None
        assert caplog.text == ""
        assert micro_batches(expected, CommonOptions(), 8, 2, 10**6) is None
    assert "effective batch of 64, but 2 process(es) x 1 x 8 images are 16" in caplog.text
    with pytest.raises(UserError, match=r"^expected\.effective_batch: the recipe expects"):
        micro_batches(expected, CommonOptions(batch_policy="refuse"), 8, 2, 10**6)


def test_accumulation_that_is_not_read_has_a_line():
    keys = {"expected.effective_batch": 64, "common.accum_freq": 4}
    assert without_effect(load_recipe(keys)) == []
    (line,) = without_effect(load_recipe(keys | {"common.batch_policy": "solve"}))
    assert "common.accum_freq has no effect: common.batch_policy is solve" in line


def test_a_run_takes_as_many_steps_as_its_effective_batch_makes(tiny_recipe, caplog):
    """72 images in steps of 3 x 8 of the base size; the figure is compared at the end."""
    expected = {
        "expected.effective_batch": 24,
        "common.batch_policy": "solve",
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
