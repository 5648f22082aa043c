"""What once went wrong: each test failed before its defect was mended."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from config.errors import UserError
from engine import build_model, evaluate, load_recipe, train
from engine.effects import without_effect
from engine.kinds import METRICS, OBSERVERS
from engine.observers.observer import build_observers
from loss_fn.classification.cross_entropy import CrossEntropy
from loss_fn.output import LossOutput

EXPLODE = """
import os
import torch
from loss_fn.classification.cross_entropy import CrossEntropy
from loss_fn.output import LossOutput

original, calls = CrossEntropy.forward, 0

def forward(self, images, outputs, targets):
    global calls
    calls += self.training
    found = original(self, images, outputs, targets)
    if self.training and calls == 3:
        {action}
    return found

CrossEntropy.forward = forward
"""


def run(recipe, **changes):
    summary = train(load_recipe({**recipe, **changes}))
    return Path(summary["run"]), summary


def with_plugin(recipe, tmp_path, action):
    path = tmp_path / "explode.py"
    path.write_text(EXPLODE.format(action=action))
    return {**recipe, "common.plugins": [*recipe["common.plugins"], str(path)]}


def test_an_error_does_not_leave_loader_workers_behind(tiny_recipe, as_command, command, tmp_path):
    """The workers outlive SIGTERM for a while; the interpreter must not wait for that."""
    recipe = with_plugin(tiny_recipe, tmp_path, "raise RuntimeError('mine')")
    words = as_command(recipe, **{"dataset.workers": 2, "dataset.persistent_workers": True})
    done = command(*words, check=False, timeout=50)
    assert done.returncode == 1
    assert "RuntimeError: mine" in done.stderr


def test_a_bad_validation_image_does_not_either(tiny_recipe, as_command, command, tmp_path):
    bad = tmp_path / "val"
    shutil.copytree(tiny_recipe["dataset.root_val"], bad)
    (bad / "down/003.jpg").write_bytes(b"no image")
    changes = {"dataset.workers": 2, "dataset.persistent_workers": True, "dataset.root_val": bad}
    done = command(*as_command(tiny_recipe, **changes), check=False, timeout=50)
    assert done.returncode == 2
    assert done.stderr.strip().startswith(f"{bad}/down/003.jpg: not an image")


def test_an_infinite_loss_on_one_rank_skips_the_step_on_all(
    tiny_recipe, as_command, command, tmp_path
):
    """Its gradient is finite; weights would differ between the ranks from then on."""
    action = "if os.environ['RANK'] == '1': found = LossOutput(found.total + float('inf'))"
    recipe = with_plugin(tiny_recipe, tmp_path, action)
    done = command(*as_command(recipe), processes=2)
    assert "epoch 1 step 3: loss or gradient is not finite" in done.stdout
    state = torch.load(tmp_path / "results/run/training_checkpoint_last.pt", weights_only=True)
    steps = {int(entry["step"]) for entry in state["optim_state_dict"]["state"].values()}
    assert steps == {state["iterations"] - 1}


def test_a_loss_of_parts_is_still_called_loss(tiny_recipe, monkeypatch):
    original = CrossEntropy.forward

    def with_parts(self, images, outputs, targets):
        total = original(self, images, outputs, targets).total
        return LossOutput(total, {"first": total.detach() / 4, "second": total.detach() * 3 / 4})

    monkeypatch.setattr(CrossEntropy, "forward", with_parts)
    _, summary = run(
        tiny_recipe,
        **{
            "stats.val": ["loss"],
            "stats.checkpoint_metric": "loss",
            "stats.checkpoint_metric_max": False,
        },
    )
    assert summary["loss"] == pytest.approx(summary["loss.first"] + summary["loss.second"])


def test_a_first_evaluation_without_a_finite_loss_is_not_the_best_for_ever(
    tiny_recipe, monkeypatch
):
    original, calls = CrossEntropy.forward, {"n": 0}

    def nan_at_first(self, images, outputs, targets):
        found = original(self, images, outputs, targets)
        if not self.training:
            calls["n"] += 1
        # 33 images in batches of 7 are 5 calls for the model, and 5 for its average
        return LossOutput(found.total * math.nan) if calls["n"] in range(1, 11) else found

    monkeypatch.setattr(CrossEntropy, "forward", nan_at_first)
    changes = {"stats.checkpoint_metric": "loss", "stats.checkpoint_metric_max": False}
    folder, summary = run(tiny_recipe, **changes, **{"scheduler.max_epochs": 3})
    assert summary["best"]["model"]["epoch"] > 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line.get("stage") == "Val")
    assert first["metrics"]["loss"] is None


def test_changes_that_were_allowed_are_honoured(tiny_recipe):
    run(tiny_recipe, **{"scheduler.max_epochs": 1})
    allowed = {"common.auto_resume": True, "common.resume_changes": "allow"}
    changed = {"optim.weight_decay": 0.5, "optim.adamw.beta2": 0.5, "scheduler.max_epochs": 3}
    folder, summary = run(tiny_recipe, **allowed, **changed)
    assert summary["epochs"] == 3
    state = torch.load(folder / "training_checkpoint_last.pt", weights_only=True)
    group = state["optim_state_dict"]["param_groups"][0]
    assert (group["weight_decay"], group["betas"][1]) == (0.5, 0.5)


def test_other_data_on_resume_are_an_error(tiny_recipe, image_folder, tmp_path):
    run(tiny_recipe)
    fewer = tmp_path / "fewer"
    shutil.copytree(image_folder / "train", fewer)
    (fewer / "down/003.jpg").unlink()
    with pytest.raises(UserError, match="started with 72 training samples, now there are 71"):
        run(tiny_recipe, **{"common.auto_resume": True, "dataset.root_train": str(fewer)})


def test_a_run_begun_from_a_state_goes_on_from_its_own(tiny_recipe):
    folder, _ = run(tiny_recipe, **{"scheduler.max_epochs": 1})
    state = str(folder / "training_checkpoint_last.pt")
    begun = {"common.run_label": "second", "common.resume": state, "common.resume_changes": "allow"}
    second, summary = run(tiny_recipe, **begun, **{"scheduler.max_epochs": 2})
    assert summary["epochs"] == 2
    with pytest.raises(UserError, match="holds a run already"):
        run(tiny_recipe, **begun)
    own = {**begun, "common.auto_resume": True, "scheduler.max_epochs": 3}
    _, summary = run(tiny_recipe, **own)
    lines = [json.loads(line) for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line.get("stage") == "Train"] == [1, 2]


def test_evaluation_refuses_classes_in_another_order(tiny_recipe, image_folder, tmp_path):
    folder, _ = run(tiny_recipe, **{"scheduler.max_epochs": 1})
    other = tmp_path / "other"
    shutil.copytree(image_folder / "val", other)
    (other / "down").rename(other / "zigzag")
    weights = {"model.classification.pretrained": str(folder / "checkpoint_best.pt")}
    with pytest.raises(UserError, match="class 1 is 'down' in the weights and 'slant' in the data"):
        evaluate(load_recipe({**tiny_recipe, **weights, "dataset.root_val": str(other)}))


def test_options_without_effect_are_named(tiny_recipe, caplog):
    caplog.set_level("INFO")
    run(tiny_recipe, **{"sampler.vbs.ep_intervals": [1], "scheduler.max_epochs": 1})
    told = [r.getMessage() for r in caplog.records]
    assert any(
        "sampler.vbs.ep_intervals has no effect: sampler.vbs.scale_inc is false" in t for t in told
    )


def test_a_run_by_iterations_ends_in_the_middle_of_an_epoch_and_reads_its_last_steps(
    tiny_recipe, monkeypatch
):
    by_steps = {"scheduler.is_iteration_based": True, "scheduler.max_iterations": 11}
    recipe = {key: value for key, value in tiny_recipe.items() if key != "scheduler.max_epochs"}
    _, summary = run(recipe, **by_steps, **{"common.log_freq": 100})
    assert summary["steps"] == 11
    original = CrossEntropy.forward
    monkeypatch.setattr(
        CrossEntropy, "forward", lambda self, i, o, t: original(self, i, o * math.nan, t)
    )
    with pytest.raises(UserError, match="4 steps in a row"):
        run(recipe, **by_steps, **{"common.run_label": "nan", "common.max_nonfinite_steps": 4})


def test_old_spellings_are_named_when_training_starts(tiny_recipe, caplog):
    caplog.set_level("INFO")
    run(tiny_recipe, **{"model.layer.conv_weight_std": 1, "scheduler.max_epochs": 1})
    assert any("conv_weight_std" in record.getMessage() for record in caplog.records)


def test_a_recipe_without_an_activation_builds_the_familys_own():
    """The same network as `create_model` gives by this name, not one with another activation."""
    for name, kind in (("mobilevit_v2", nn.SiLU), ("vit", nn.GELU), ("mobilenetv2", nn.ReLU6)):
        recipe = load_recipe(
            {"model.classification.name": name, "model.classification.n_classes": 3}
        )
        with torch.device("meta"):
            modules = list(build_model(recipe).modules())
        assert any(isinstance(module, kind) for module in modules)
        assert not any(type(module) is nn.ReLU for module in modules)
    chosen = load_recipe(recipe_with("model.activation.name", "gelu"))
    with torch.device("meta"):
        assert any(isinstance(module, nn.GELU) for module in build_model(chosen).modules())


def recipe_with(key, value):
    return {
        "model.classification.name": "mobilevit_v2",
        "model.classification.n_classes": 3,
        key: value,
    }


def test_a_network_that_cannot_recompute_says_so(tiny_recipe):
    key = "model.classification.gradient_checkpointing"
    with pytest.raises(UserError, match=f"{key}: tiny cannot recompute; set it to false"):
        run(tiny_recipe, **{key: True})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("model.layer.conv_init_std_dev", 0.5, "conv_init is kaiming_normal"),
        ("model.normalization.groups", 4, "batch_norm has no groups"),
        ("model.activation.neg_slope", 0.3, "swish has no slope"),
    ],
)
def test_options_of_the_layers_without_effect_are_named(key, value, reason):
    recipe = load_recipe({"model.activation.name": "swish", key: value})
    assert without_effect(recipe) == [f"python: {key} has no effect: {reason}"]


def test_an_observer_that_cannot_be_built_is_dropped(tmp_path, caplog):
    @OBSERVERS.register("broken_from_the_start")
    def broken(options, *, folder, quiet):
        raise RuntimeError("no socket")

    observers = build_observers(["broken_from_the_start", "jsonl"], folder=tmp_path, quiet=True)
    observers.on_end({})
    assert "observer broken_from_the_start: RuntimeError: no socket" in caplog.text
    assert "it is dropped, training goes on" in caplog.text


def test_weights_without_a_best_are_said_to_be_missing(tiny_recipe, caplog):
    """A metric that is never a number has no best."""

    @METRICS.register("never")
    class Never:
        """Not a number."""

        def __init__(self, options):
            pass

        def update(self, seen):
            pass

        def step(self, gradient_norm):
            pass

        def state(self):
            return []

        def result(self, states):
            return math.nan

    changes = {"stats.val": ["loss", "never"], "stats.checkpoint_metric": "never"}
    folder, _ = run(tiny_recipe, **changes, **{"scheduler.max_epochs": 1})
    assert "never was never a number: there is no checkpoint_best.pt" in caplog.text
    assert not (folder / "checkpoint_best.pt").exists()
