"""The best weights that are kept, their average, and the copy of the moving average."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from config.errors import StopRequested
from engine import evaluate, load_recipe, train
from engine.averaging import average, average_of, keep_best, present
from engine.distributed import StopSignal, World
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
    assert average_of(tmp_path, present(tmp_path, kept))["a"] == 7 / 3
    (tmp_path / kept[0]["file"]).unlink()
    assert present(tmp_path, kept) == kept[1:]
    assert average_of(tmp_path, present(tmp_path, kept))["a"] == 3
    (tmp_path / kept[1]["file"]).unlink()
    assert average_of(tmp_path, present(tmp_path, kept)) is None


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


def continued(recipe, first, label, **changes):
    """Go on from the state of another folder, for so many epochs in all."""
    given = {
        "common.resume": str(first / "training_checkpoint_last.pt"),
        "common.resume_changes": "allow",
        "common.run_label": label,
    }
    return run(recipe, **given, **changes)


def assert_mean_of(average, paths):
    states = [load(path) for path in paths]
    for key, value in average.items():
        expected = sum(state[key].double() for state in states) / len(states)
        assert torch.equal(value, expected.to(value.dtype)), key


def test_a_run_that_goes_on_in_another_folder_takes_the_best_along(tiny_recipe, monkeypatch):
    """40 and 50 in the first; 45 in the second; 60 and 70 in the third."""
    by_epoch = [(40.0, 9.0), (50.0, 8.0)]
    scores_are(monkeypatch, by_epoch)
    a, _ = run(tiny_recipe)
    scores_are(monkeypatch, [(45.0, 7.0)])
    b, summary = continued(tiny_recipe, a, "b", **{"scheduler.max_epochs": 3})
    assert summary["top1"] == summary["best"]["model"]["top1"] == 50.0
    for name in ("checkpoint_best.pt", "checkpoint_ema_best.pt", *scored(a), *scored(a, "*ema")):
        assert (b / name).read_bytes() == (a / name).read_bytes()
    assert scored(b) == ["checkpoint_score_40.0000.pt", "checkpoint_score_50.0000.pt"]
    assert_mean_of(load(b / "checkpoint_avg.pt"), [b / name for name in scored(b)])

    scores_are(monkeypatch, [(60.0, 7.0), (70.0, 7.0)])
    changes = {**FOUR, "common.k_best_checkpoints": 3}
    c, _ = continued(tiny_recipe, a, "c", **changes)
    names = [f"checkpoint_score_{score}.0000.pt" for score in (50, 60, 70)]
    assert scored(c) == names
    mean = load(c / "checkpoint_avg.pt")
    assert_mean_of(mean, [c / name for name in names])
    assert [entry["file"] for entry in mean._metadata["cvnets"]["averaged"]] == names
    assert len(scored(a)) == 2  # the first run is as it was


def test_what_is_not_beside_the_state_is_forgotten(tiny_recipe, monkeypatch, caplog):
    """Its best and one of the kept are gone: 45 is the best of what there is."""
    scores_are(monkeypatch, [(40.0, 9.0), (50.0, 8.0)])
    a, _ = run(tiny_recipe)
    for name in ("checkpoint_best.pt", "checkpoint_score_50.0000.pt"):
        (a / name).unlink()
    scores_are(monkeypatch, [(45.0, 7.0)])
    with caplog.at_level(logging.WARNING, "engine.results"):
        b, summary = continued(tiny_recipe, a, "b", **{"scheduler.max_epochs": 3})
    lines = [r.getMessage() for r in caplog.records if "forgotten" in r.getMessage()]
    names = "checkpoint_best.pt, checkpoint_score_50.0000.pt"
    assert lines == [f"not in {a}, and forgotten: {names}"]
    assert summary["top1"] == 45.0
    assert (b / "checkpoint_best.pt").is_file()
    averaged = load(b / "checkpoint_avg.pt")._metadata["cvnets"]["averaged"]
    assert [entry["score"] for entry in averaged] == [40.0, 45.0]
    state = load(b / "training_checkpoint_last.pt")["cvnets"]
    assert state["kept"]["model"] == averaged
    assert state["best"] == {"model": 45.0, "ema": 9.0}


def test_all_ranks_forget_what_rank_0_does_not_find(tmp_path, monkeypatch):
    """Another rank may see the folder differently; what is best has to be the same on all."""
    found = ["checkpoint_best.pt", "checkpoint_score_1.0000.pt"]
    monkeypatch.setattr("engine.results.gather", lambda mine, world: [found, mine])
    kept = [{"file": f"checkpoint_score_{s}.0000.pt", "score": s, "epoch": s} for s in (1, 2)]
    state = SimpleNamespace(
        origin=tmp_path / "first",
        best={"model": 2.0, "ema": 1.0},
        best_metrics={"model": {}, "ema": {}},
        kept={"model": kept},
    )
    Results(tmp_path, state, None, None, World(1, 2), None, None, {}, {})
    assert state.best == {"ema": 1.0}
    assert state.best_metrics == {"ema": {}}
    assert state.kept == {"model": kept[1:]}
    assert list(tmp_path.iterdir()) == []


def test_metadata_lists_only_what_was_averaged(tiny_recipe, monkeypatch):
    """A file was deleted by hand in the same folder, while the run was not running."""
    scores_are(monkeypatch, [(10.0, 9.0), (20.0, 8.0), (30.0, 7.0), (15.0, 7.0)])
    changes = {"common.auto_resume": True, "common.resume_changes": "allow"}
    folder, _ = run(tiny_recipe, **changes, **{"scheduler.max_epochs": 3})
    (folder / "checkpoint_score_20.0000.pt").unlink()
    run(tiny_recipe, **changes, **FOUR)
    mean = load(folder / "checkpoint_avg.pt")
    assert [entry["score"] for entry in mean._metadata["cvnets"]["averaged"]] == [10.0, 30.0]
    assert_mean_of(mean, [folder / name for name in scored(folder)])
