"""The best weights that are kept, their average, and the copy of the moving average."""

import json
from pathlib import Path

import pytest
import torch

from config.errors import StopRequested
from engine import evaluate, load_recipe, train
from engine.averaging import average, average_of, keep_best
from engine.distributed import StopSignal
from engine.evaluator import Evaluator
from engine.results import Results

FOUR = {"scheduler.max_epochs": 4}


def scores_are(monkeypatch, by_epoch, averages=50.0):
    """Let validation find these values of top1: of the model, and of the EMA, one pair per epoch."""
    values = [value for pair in by_epoch for value in pair]
    original = Evaluator.evaluate

    def evaluate_as_told(self, model, keep=None):
        found = original(self, model, keep)
        found.metrics["top1"] = values.pop(0) if values else averages
        return found

    monkeypatch.setattr(Evaluator, "evaluate", evaluate_as_told)


def run(recipe, **changes):
    summary = train(load_recipe({**recipe, **changes}))
    return Path(summary["run"]), summary


def scored(folder, stem="checkpoint"):
    return sorted(path.name for path in folder.glob(f"{stem}_score_*.pt"))


def load(path):
    return torch.load(path, weights_only=True)


def test_the_average_is_made_in_float64_and_integers_are_the_last_ones():
    # 2^24 + 1 is no float32: added up in that type, the ones would be lost
    values = ((2.0**24, 1), (1.0, 2), (1.0, 6))
    mean = average({"a": torch.tensor([a]), "n": torch.tensor(n)} for a, n in values)
    assert mean["a"].tolist() == [(2**24 + 2) / 3]
    assert mean["a"].dtype == torch.float32
    assert mean["n"] == 6
    half = average([{"a": torch.tensor([60000.0]).half()}] * 4)
    assert half["a"].tolist() == [60000.0]  # the sum is beyond float16
    assert half["a"].dtype == torch.float16


def test_the_manifest_by_hand():
    kept = []
    files = [keep_best(kept, "checkpoint", score, epoch, 3) for epoch, score in enumerate(
        [10.0, 20.00001, 20.00002, 30.0, 30.0]
    )]  # fmt: skip
    assert [name for name, _ in files] == [
        "checkpoint_score_10.0000.pt",
        "checkpoint_score_20.0000.pt",
        "checkpoint_score_20.0000_epoch2.pt",
        "checkpoint_score_30.0000.pt",
        "checkpoint_score_30.0000_epoch4.pt",
    ]
    assert [gone for _, gone in files] == [[], [], [], [files[0][0]], [files[1][0]]]
    assert [entry["score"] for entry in kept] == [20.00002, 30.0, 30.0]
    assert [entry["epoch"] for entry in kept] == [2, 3, 4]
    keep_best(kept, "checkpoint", 40.0, 5, 2)  # a resume with fewer
    assert [entry["epoch"] for entry in kept] == [4, 5]


def test_what_is_missing_in_the_folder_is_left_out(tmp_path):
    kept = []
    for epoch, score in enumerate([1.0, 2.0, 4.0]):
        name, _ = keep_best(kept, "checkpoint", score, epoch, 5)
        torch.save({"a": torch.tensor(score)}, tmp_path / name)
    assert average_of(tmp_path, kept)["a"] == 7 / 3
    (tmp_path / kept[0]["file"]).unlink()
    assert average_of(tmp_path, kept)["a"] == 3
    (tmp_path / kept[1]["file"]).unlink()
    assert average_of(tmp_path, kept) is None


def test_a_run_keeps_the_best_and_averages_them(tiny_recipe, monkeypatch):
    """The model gets better three times, its EMA never; two are kept."""
    scores_are(monkeypatch, [(10.0, 9.0), (20.0, 8.0), (15.0, 7.0), (30.0, 6.0)])
    folder, summary = run(tiny_recipe, **FOUR, **{"common.k_best_checkpoints": 2})
    assert scored(folder) == ["checkpoint_score_20.0000.pt", "checkpoint_score_30.0000.pt"]
    assert scored(folder, "checkpoint_ema") == ["checkpoint_ema_score_9.0000.pt"]
    assert not (folder / "checkpoint_ema_avg.pt").exists()
    best, last = (load(folder / f"checkpoint_{name}.pt") for name in ("best", "last"))
    kept = [load(folder / name) for name in scored(folder)]
    mean = load(folder / "checkpoint_avg.pt")
    for key in mean:
        assert torch.equal(kept[1][key], best[key])
        assert torch.equal(kept[1][key], last[key])
        expected = ((kept[0][key].double() + kept[1][key].double()) / 2).float()
        assert torch.equal(mean[key], expected)
    assert not torch.equal(mean["0.weight"], best["0.weight"])
    assert summary["average"]["model"]["top1"] == 50.0
    assert set(summary["average"]) == {"model"}
    about = mean._metadata["cvnets"]
    assert [(e["epoch"], e["score"]) for e in about["averaged"]] == [(1, 20.0), (3, 30.0)]
    assert about["metrics"]["top1"] == 50.0
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in records if r["kind"] == "evaluation"][-1] == "Val_Average"


def test_the_average_measures_what_the_summary_says(tiny_recipe):
    folder, summary = run(tiny_recipe, **FOUR)
    path = folder / "checkpoint_ema_avg.pt"
    if "ema" not in summary["average"]:
        pytest.fail("the moving average should have become better at least twice")
    weights = {"model.classification.pretrained": str(path)}
    found = evaluate(load_recipe({**tiny_recipe, **weights}))["metrics"]
    assert found == pytest.approx(summary["average"]["ema"], rel=1e-6)


def test_a_finished_run_that_is_started_again_tells_its_average_once(tiny_recipe):
    changes = {**FOUR, "common.auto_resume": True}
    for _ in range(2):
        folder, summary = run(tiny_recipe, **changes)
    assert "ema" in summary["average"]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    stages = [line.get("stage") for line in map(json.loads, lines)]
    assert stages.count("Val_EMA_Average") == 1
    assert stages.count("Val_EMA") == 4


@pytest.mark.parametrize("most", [0, 1])
def test_none_are_kept_if_none_are_wanted_and_all_epochs_if_they_are(tiny_recipe, most):
    changes = {"common.k_best_checkpoints": most, "common.save_all_checkpoints": True}
    folder, summary = run(tiny_recipe, **changes)
    assert scored(folder) == scored(folder, "checkpoint_ema") == []
    assert not (folder / "checkpoint_avg.pt").exists()
    assert summary["average"] == {}
    for stem in ("checkpoint", "checkpoint_ema"):
        epochs = sorted(path.name for path in folder.glob(f"{stem}_epoch*.pt"))
        assert epochs == [f"{stem}_epoch0.pt", f"{stem}_epoch1.pt"]
        last = load(folder / f"{stem}_last.pt")
        assert all(torch.equal(v, last[k]) for k, v in load(folder / epochs[1]).items())
        assert not torch.equal(load(folder / epochs[0])["0.weight"], last["0.weight"])


def stopped_at(monkeypatch, iteration):
    """Ask for a stop after so many optimizer steps, once."""
    original, seen = StopSignal.agree, []

    def agree(self, *, save):
        seen.append(save)
        self.requested = len(seen) == iteration
        return original(self, save=save)

    monkeypatch.setattr(StopSignal, "agree", agree)


def stopped_behind_the_evaluation(monkeypatch, epoch):
    """As if killed when the files of an epoch are there, and the state that knows of them is not."""
    original = Results.after_epoch

    def after_epoch(self, training):
        original(self, training)
        if self.state.epoch == epoch:
            raise StopRequested("killed")

    monkeypatch.setattr(Results, "after_epoch", after_epoch)


@pytest.mark.parametrize(
    ("stop", "where"),
    [(stopped_at, 13), (stopped_at, 25), (stopped_behind_the_evaluation, 3)],
)
def test_a_resumed_run_keeps_averages_and_copies_the_same(tiny_recipe, monkeypatch, stop, where):
    changes = {
        **FOUR,
        "common.k_best_checkpoints": 2,
        "common.auto_resume": True,
        "ema.warmup": True,
        "ema.copy_at_epoch": 1,
        "model.classification.tiny.norm": True,
        "model.normalization.adjust_bn_momentum.enable": True,
        "model.normalization.adjust_bn_momentum.final_momentum_value": 0.01,
    }
    whole, summary = run(tiny_recipe, **changes, **{"common.run_label": "whole"})
    broken = {**tiny_recipe, **changes, "common.run_label": "broken"}
    with monkeypatch.context() as patch:
        stop(patch, where)
        with pytest.raises(StopRequested):
            train(load_recipe(broken))
    other, again = run(broken)
    names = sorted(path.name for path in whole.glob("checkpoint*.pt"))
    assert names == sorted(path.name for path in other.glob("checkpoint*.pt"))
    assert len(names) >= 8
    for name in names:
        a, b = load(whole / name), load(other / name)
        assert all(torch.equal(a[key], b[key]) for key in a), name
    unlike = {"run", "seconds"}
    assert {k: v for k, v in summary.items() if k not in unlike} == {
        k: v for k, v in again.items() if k not in unlike
    }
    records = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    stages = [r["stage"] for r in records if r["kind"] == "evaluation"]
    assert stages.count("Val_Copied") == 1
    assert stages.count("Val_Average") <= 1
