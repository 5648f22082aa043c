"""Training stops when the checkpoint metric does not become better."""

import json
from pathlib import Path

import pytest

from engine import load_recipe, train
from engine.effects import without_effect
from engine.evaluator import Evaluator

NAN = float("nan")


def run(recipe, monkeypatch, values, metric="top1", **changes):
    """A run whose validation finds these values of a metric, one per epoch."""
    left, original = list(values), Evaluator.evaluate

    def evaluate_as_told(self, model, keep=None):
        found = original(self, model, keep)
        found.metrics[metric] = left.pop(0) if left else 0.0
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", evaluate_as_told)
        recipe = {**recipe, "ema.enable": False, "scheduler.max_epochs": 6, **changes}
        return train(load_recipe(recipe))


@pytest.mark.parametrize(
    ("values", "patience", "epochs"),
    [
        ([10, 20, 15, 18, 30], 2, 4),  # two epochs behind the best one
        ([10, 20, 20, 20, 30], 2, 4),  # as good is not better
        ([10, 20, 15, 21, 15, 30], 2, 6),
        ([NAN, NAN, NAN], 2, 2),
        ([10, 9, 8, 7, 6, 5], None, 6),
    ],
)
def test_stops_by_hand(tiny_recipe, monkeypatch, caplog, values, patience, epochs):
    changes = {} if patience is None else {"stats.patience": patience}
    with caplog.at_level("INFO"):
        summary = run(tiny_recipe, monkeypatch, values, **changes)
    assert summary["epochs"] == epochs
    stopped = epochs < 6
    assert summary["stopped_early"] is stopped
    assert ("stopped early: top1 is not better" in caplog.text) is stopped
    stored = json.loads((Path(summary["run"]) / "summary.json").read_text())
    assert stored["stopped_early"] is stopped


def test_a_smaller_loss_is_better(tiny_recipe, monkeypatch):
    changes = {"stats.checkpoint_metric": "loss", "stats.checkpoint_metric_max": False}
    changes |= {"stats.patience": 1}
    summary = run(tiny_recipe, monkeypatch, [3.0, 2.0, 1.0, 1.5, 0.5], metric="loss", **changes)
    assert summary["epochs"] == 4
    assert summary["loss"] == 1.0


def test_a_stopped_run_stays_stopped_and_goes_on_with_more_patience(tiny_recipe, monkeypatch):
    shared = {"common.auto_resume": True, "stats.patience": 2}
    summary = run(tiny_recipe, monkeypatch, [50, 40, 30], **shared)
    assert summary["epochs"] == 3
    again = run(tiny_recipe, monkeypatch, [20], **shared)
    assert (again["epochs"], again["stopped_early"]) == (3, True)
    more = {"stats.patience": 3, "common.resume_changes": "allow"}
    assert run(tiny_recipe, monkeypatch, [20], **shared | more)["epochs"] == 4


def test_without_validation_there_is_no_patience(tiny_recipe):
    recipe = load_recipe({**tiny_recipe, "stats.patience": 3, "dataset.disable_val": True})
    assert any(
        "stats.patience has no effect: dataset.disable_val is true" in line
        for line in without_effect(recipe)
    )
