"""Training through the public functions: what it leaves behind, and what it equals."""

import json
from pathlib import Path

import pytest
import torch

from config.errors import RecipeError, UserError
from data.datasets.shapes import generate
from engine import evaluate, load_recipe, train
from engine.effects import without_effect
from engine.kinds import OBSERVERS
from engine.observers.observer import Observer

PLUGINS = Path(__file__).parent.parent / "plugins"


def run(recipe, **changes):
    summary = train(load_recipe({**recipe, **changes}))
    return Path(summary["run"]), summary


def weights(folder, name="checkpoint_last.pt"):
    return torch.load(folder / name, weights_only=True)


def records(folder, kind):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def losses(folder):
    return [record["loss"] for record in records(folder, "step")]


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_learns_and_leaves_the_promised_files(tiny_recipe):
    folder, summary = run(
        tiny_recipe, **{"scheduler.max_epochs": 16, "common.tensorboard_logging": True}
    )
    assert summary["top1"] > 80
    names = {path.name for path in folder.iterdir()}
    official = {f"checkpoint{ema}_{which}.pt" for ema in ("", "_ema") for which in ("last", "best")}
    assert (
        official
        | {"training_checkpoint_last.pt", "config.yaml", "environment.json", "metrics.jsonl"}
        <= names
    )
    assert {"run.log", "tb_logs", "curves.png", "predictions.png", "summary.json"} <= names
    assert not [name for name in names if name.endswith(".tmp")]
    assert json.loads((folder / "summary.json").read_text())["top1"] == summary["top1"]
    assert summary["images_seen"] == 16 * 72


def test_best_checkpoint_evaluates_to_what_the_summary_says(tiny_recipe):
    folder, summary = run(tiny_recipe, **{"scheduler.max_epochs": 4})
    path = folder / "checkpoint_best.pt"
    again = {**tiny_recipe, "model.classification.pretrained": str(path)}
    found = evaluate(load_recipe({**again, "dataset.eval_batch_size0": 7}))
    assert found["images"] == 33
    assert found["metrics"]["top1"] == summary["top1"]
    assert found["metrics"]["loss"] == summary["loss"]
    other_batch = evaluate(load_recipe({**again, "dataset.eval_batch_size0": 33}))
    assert other_batch["metrics"]["top1"] == summary["top1"]
    assert other_batch["metrics"]["loss"] == pytest.approx(summary["loss"], rel=1e-6)


def test_weights_carry_their_recipe_and_classes(tiny_recipe):
    folder, _ = run(tiny_recipe)
    state = weights(folder)
    metadata = state._metadata["cvnets"]
    assert metadata["classes"] == ["across", "down", "slant"]
    assert metadata["recipe"]["sampler.vbs.check_scale"] == 8
    assert all("cvnets" not in key for key in state)


def test_every_sample_once_per_epoch(tiny_recipe):
    folder, _ = run(tiny_recipe)
    per_epoch = {}
    for record in records(folder, "evaluation"):
        if record["stage"] == "Train":
            per_epoch[record["epoch"]] = record["images"]
    assert per_epoch == {0: 72, 1: 144}


def test_same_recipe_same_weights_and_another_seed_another(tiny_recipe):
    first, _ = run(tiny_recipe, **{"common.run_label": "a", "common.deterministic": True})
    second, _ = run(tiny_recipe, **{"common.run_label": "b", "common.deterministic": True})
    other, _ = run(tiny_recipe, **{"common.run_label": "c", "common.seed": 1})
    torch.use_deterministic_algorithms(False)
    assert_same_weights(weights(first), weights(second))
    assert not torch.equal(weights(first)["0.weight"], weights(other)["0.weight"])


def test_workers_do_not_change_the_result(tiny_recipe):
    dropout = {"model.classification.tiny.dropout": 0.5}
    alone, _ = run(tiny_recipe, **dropout)
    with_workers, _ = run(
        tiny_recipe,
        **dropout,
        **{"common.run_label": "w", "dataset.workers": 2, "dataset.persistent_workers": True},
    )
    assert_same_weights(weights(alone), weights(with_workers))


def test_accumulation_is_the_mean_over_the_images_of_the_step(tiny_recipe):
    """Two micro-batches of 4 give the gradient of one batch of 8: same samples, same weights."""
    exact = {"common.parameter_dtype": "float64", "sampler.name": "batch_sampler"}
    exact |= {"sampler.bs.crop_size_width": 32, "sampler.bs.crop_size_height": 32}
    whole, _ = run(tiny_recipe, **exact)
    halves, _ = run(
        tiny_recipe,
        **exact,
        **{"common.run_label": "h", "dataset.train_batch_size0": 4, "common.accum_freq": 2},
    )
    torch.testing.assert_close(losses(whole), losses(halves), rtol=1e-12, atol=0)
    torch.testing.assert_close(weights(whole), weights(halves), rtol=1e-9, atol=1e-12)


def test_unequal_micro_batches_are_weighted_by_their_images(tiny_recipe):
    """The last step has micro-batches of 16 and 4 images; a plain mean of both would differ."""
    exact = {"common.parameter_dtype": "float64", "sampler.name": "batch_sampler"}
    exact |= {"sampler.bs.crop_size_width": 32, "sampler.bs.crop_size_height": 32}
    exact |= {"scheduler.max_epochs": 1}
    whole, _ = run(tiny_recipe, **exact, **{"dataset.train_batch_size0": 26 * 2})
    parts, _ = run(
        tiny_recipe,
        **exact,
        **{"common.run_label": "h", "dataset.train_batch_size0": 13, "common.accum_freq": 4},
    )
    torch.testing.assert_close(losses(whole), losses(parts), rtol=1e-12, atol=0)


def test_a_bad_step_is_skipped_named_and_training_goes_on(tiny_recipe, caplog, monkeypatch):
    from loss_fn.classification.cross_entropy import CrossEntropy

    calls = {"n": 0}
    original = CrossEntropy.forward

    def sometimes_nan(self, images, outputs, targets):
        if self.training:
            calls["n"] += 1
        if self.training and calls["n"] == 3:
            outputs = outputs * float("nan")
        return original(self, images, outputs, targets)

    monkeypatch.setattr(CrossEntropy, "forward", sometimes_nan)
    changes = {"model.classification.tiny.norm": True}
    folder, summary = run(tiny_recipe, **changes)
    warnings = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert len(warnings) == 1
    assert "epoch 1 step 3" in warnings[0]
    assert ".jpg" in warnings[0]
    assert all(torch.isfinite(v).all() for v in weights(folder).values())
    assert all(torch.isfinite(v).all() for v in weights(folder, "checkpoint_ema_last.pt").values())
    assert summary["last"]["train.loss"] > 0


def test_running_statistics_survive_a_bad_image(tiny_recipe, monkeypatch):
    """NaN in the input reaches batch norm before the loss is known; its statistics are restored."""
    from engine.task import Task

    original, calls = Task.scale, {"n": 0}

    def poisoned(self, images):
        calls["n"] += 1
        scaled = original(self, images)
        return scaled * float("nan") if calls["n"] == 2 else scaled

    monkeypatch.setattr(Task, "scale", poisoned)
    folder, _ = run(tiny_recipe, **{"model.classification.tiny.norm": True})
    assert all(torch.isfinite(v).all() for v in weights(folder).values())


def test_many_bad_steps_stop_training_with_the_checkpoint_intact(tiny_recipe, monkeypatch):
    folder, _ = run(tiny_recipe)
    before = (folder / "training_checkpoint_last.pt").read_bytes()
    from loss_fn.classification.cross_entropy import CrossEntropy

    original = CrossEntropy.forward
    monkeypatch.setattr(
        CrossEntropy, "forward", lambda self, i, o, t: original(self, i, o * float("nan"), t)
    )
    longer = {
        "scheduler.max_epochs": 4,
        "common.auto_resume": True,
        "common.resume_changes": "allow",
    }
    state = torch.load(folder / "training_checkpoint_last.pt", weights_only=True)
    state["cvnets"]["finished"] = False
    torch.save(state, folder / "training_checkpoint_last.pt")
    before = (folder / "training_checkpoint_last.pt").read_bytes()
    with pytest.raises(UserError, match="3 steps in a row without a finite loss"):
        run(tiny_recipe, **longer, **{"common.max_nonfinite_steps": 3})
    assert (folder / "training_checkpoint_last.pt").read_bytes() == before


def test_a_failing_observer_is_dropped(tiny_recipe, caplog, monkeypatch):
    class Failing(Observer):
        def __init__(self, options, *, folder, quiet):
            pass

        def on_step(self, record):
            raise ZeroDivisionError("mine")

    monkeypatch.setattr(OBSERVERS, "_entries", dict(OBSERVERS._entries))
    OBSERVERS.register("failing")(Failing)
    _, summary = run(tiny_recipe, **{"common.observers": ["failing"]})
    assert summary["epochs"] == 2
    told = [r.getMessage() for r in caplog.records if "observer failing" in r.getMessage()]
    assert len(told) == 1
    assert "ZeroDivisionError: mine" in told[0]


def test_second_run_is_refused_resumed_or_changed(tiny_recipe):
    run(tiny_recipe)
    with pytest.raises(UserError, match="holds a run already"):
        run(tiny_recipe)
    with pytest.raises(
        RecipeError, match=r"optim.weight_decay: was 4e-05 when the run was started, now 0.5"
    ):
        run(tiny_recipe, **{"common.auto_resume": True, "optim.weight_decay": 0.5})
    # where and how fast may change
    _, summary = run(tiny_recipe, **{"common.auto_resume": True, "common.log_freq": 5})
    assert summary["epochs"] == 2


def test_finetune_starts_from_the_weights(tiny_recipe):
    folder, first = run(tiny_recipe, **{"scheduler.max_epochs": 6})
    _, second = run(
        tiny_recipe,
        **{
            "common.run_label": "fine",
            "common.finetune": str(folder / "checkpoint_best.pt"),
            "scheduler.max_epochs": 1,
            "scheduler.warmup_iterations": 0,
            "scheduler.cosine.max_lr": 1e-7,
            "scheduler.cosine.min_lr": 1e-8,
        },
    )
    assert second["top1"] == pytest.approx(first["top1"], abs=3.1)


def test_toy_task_of_a_plugin_trains_through_the_untouched_trainer(tmp_path):
    recipe = load_recipe(
        {
            "common": {"plugins": [str(PLUGINS / "toy_task.py")], "results_loc": str(tmp_path)},
            "dataset": {"category": "brighter_half", "train_batch_size0": 16, "workers": 0},
            "sampler.bs": {"crop_size_width": 16, "crop_size_height": 16},
            "optim": {"name": "adamw"},
            "scheduler": {"max_epochs": 6, "cosine.max_lr": 0.1},
            "stats": {
                "val": ["top1"],
                "checkpoint_metric": "top1",
                "checkpoint_metric_max": True,
            },
        }
    )
    summary = train(recipe)
    assert summary["top1"] == 100.0


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "mode", ["xx_small", pytest.param("x_small", marks=SLOW), pytest.param("small", marks=SLOW)]
)
def test_official_imagenet_recipe_runs_on_other_data(mode, tmp_path):
    """Nothing is changed but data, batch, epochs, and where the run goes."""
    generate("imagefolder", tmp_path / "shapes", train=24, val=8, seed=3)
    name = "mobilevit" if mode == "small" else f"mobilevit_{mode}"
    changes = [f"dataset.root_{split}={tmp_path}/shapes/{split}" for split in ("train", "val")]
    changes += ["model.classification.n_classes=8", "dataset.train_batch_size0=4"]
    changes += ["scheduler.max_epochs=1", f"common.results_loc={tmp_path}"]
    summary = train(load_recipe(f"classification/imagenet/{name}", changes))
    assert summary["images_seen"] == 24
    assert set(summary["best"]) == {"model", "ema"}
    assert {"val.loss", "val.top1", "val.top5"} <= set(summary["last"])


def test_a_warmup_longer_than_the_run_is_told(tiny_recipe, caplog):
    caplog.set_level("WARNING")
    train(
        load_recipe(
            tiny_recipe | {"scheduler.warmup_iterations": 10_000, "scheduler.max_epochs": 1}
        )
    )
    assert "the warm-up 10000: the learning rate never reaches its peak" in caplog.text


def test_what_begins_behind_the_end_of_the_run_has_a_line():
    keys = {
        "scheduler.max_epochs": 20,
        "scheduler.name": "multi_step",
        "scheduler.multi_step.milestones": [30, 60],
        "scheduler.multi_step.gamma": 0.1,
        "ema.enable": True,
        "ema.copy_at_epoch": 500,
    }
    assert [line.partition(": ")[2] for line in without_effect(load_recipe(keys))] == [
        "ema.copy_at_epoch has no effect: the run has 20 epochs",
        "scheduler.multi_step.milestones has no effect: the run has 20 epochs",
    ]
    assert without_effect(load_recipe(keys | {"scheduler.max_epochs": 501})) == []
