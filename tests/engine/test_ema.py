"""The moving average against the reference trace."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine import load_recipe, train
from engine.effects import without_effect
from engine.ema import ModelEma

TRACE = Path(__file__).parent.parent / "reference" / "traces" / "ema.json"
# the case of integer counters records what the official code truncates; ours copies them
CASES = [case for case in json.loads(TRACE.read_text())["cases"] if "steps" in case]


class Traced(nn.Module):
    def __init__(self, init):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(init["w"]))
        self.register_buffer("running_mean", torch.tensor(init["running_mean"]))
        self.register_buffer("num_batches_tracked", torch.tensor(init["num_batches_tracked"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_follows_the_reference(case):
    """Parameters and running statistics; the counter is copied, where the official code truncates."""
    model = Traced(case["init"])
    ema = ModelEma(model, case["momentum"])
    generator = np.random.default_rng(77)
    for number, step in enumerate(case["steps"], 1):
        with torch.no_grad():
            model.w.copy_(torch.from_numpy(generator.standard_normal(3)))
            model.running_mean.copy_(torch.from_numpy(generator.standard_normal(2)))
            model.num_batches_tracked += 100
        ema.update(number)
        np.testing.assert_allclose(ema.model.w.detach(), step["w"], rtol=2e-6)
        np.testing.assert_allclose(ema.model.running_mean, step["running_mean"], rtol=2e-6)
        assert ema.model.num_batches_tracked == 100 * number


def test_is_in_evaluation_mode_and_needs_no_gradient():
    ema = ModelEma(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(), 0.5)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())


def test_warmup_by_hand():
    """The momentum is 9 / (10 + t) until that falls below the one that is asked for."""
    model = nn.Linear(1, 1, bias=False)
    ema = ModelEma(model, 0.3, warmup=True)
    assert [ema.momentum_at(t) for t in (0, 8, 20, 21, 10**6)] == [0.9, 0.5, 0.3, 0.3, 0.3]
    nn.init.constant_(ema.model.weight, 0.0)
    nn.init.constant_(model.weight, 10.0)
    for iteration, expected in ((0, 9.0), (8, 9.5), (10**6, 9.65)):
        ema.update(iteration)
        assert ema.model.weight.item() == pytest.approx(expected)
    assert ModelEma(model, 0.3).momentum_at(0) == 0.3


def test_the_average_becomes_the_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = ModelEma(model, 0.5)
    with torch.no_grad():
        for entry in model.state_dict().values():
            entry.add_(3)
    parameter = model[0].weight
    ema.copy_to_model()
    for key, value in ema.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert model[0].weight is parameter
    assert parameter.requires_grad
    with torch.no_grad():
        model[0].weight.add_(1)
    ema.update(0)
    assert torch.equal(ema.model[0].weight, parameter - 0.5)


def test_the_trainer_counts_steps_over_the_whole_run(tiny_recipe, monkeypatch):
    seen, original = [], ModelEma.update

    def update(self, iteration):
        seen.append(iteration)
        original(self, iteration)

    monkeypatch.setattr(ModelEma, "update", update)
    steps = train(load_recipe(tiny_recipe))["steps"]
    assert seen == list(range(steps))
    assert steps > 12


def records(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(r["stage"], r["epoch"]): r["metrics"] for r in lines if r["kind"] == "evaluation"}


@pytest.mark.parametrize("epoch", [0, 1])
def test_copy_at_epoch(tiny_recipe, epoch):
    """Behind that epoch the model is evaluated again as its average; best is what it was before."""
    summary = train(load_recipe(tiny_recipe | {"ema.copy_at_epoch": epoch}))
    folder = Path(summary["run"])
    found = records(folder)
    last = {k.removeprefix("val."): v for k, v in summary["last"].items() if k.startswith("val.")}
    assert last == found["Val_Copied" if epoch == 1 else "Val", 1]
    assert found["Val_Copied", epoch] == found["Val_EMA", epoch]
    assert ("Val_Copied", 1 - epoch) not in found
    model, ema = (torch.load(folder / f"checkpoint{e}_last.pt") for e in ("", "_ema"))
    assert all(torch.equal(model[k], ema[k]) for k in model) == (epoch == 1)
    state = torch.load(folder / "training_checkpoint_last.pt", weights_only=True)
    assert all(torch.equal(model[k], state["model_state_dict"][k]) for k in model)
    values = [found["Val", e]["top1"] for e in (0, 1)]
    assert state["best_metric"] == max(values)


def test_starts_from_weights_of_its_own(tiny_recipe):
    first = Path(train(load_recipe(tiny_recipe))["run"])
    weights = {
        "common.finetune": str(first / "checkpoint_last.pt"),
        "common.finetune_ema": str(first / "checkpoint_ema_last.pt"),
        "common.run_label": "second",
        "ema.momentum": 1e-12,
        "scheduler.max_epochs": 1,
    }
    second = Path(train(load_recipe(tiny_recipe | weights))["run"])
    old, new, live = (
        torch.load(folder / f"checkpoint{name}_last.pt")
        for folder, name in ((first, "_ema"), (second, "_ema"), (second, ""))
    )
    for key in old:
        torch.testing.assert_close(old[key], new[key], rtol=0, atol=1e-9)
        assert not torch.equal(live[key], new[key])


def test_without_an_average_its_options_have_no_effect(tiny_recipe):
    given = {"ema.enable": False, "ema.warmup": True, "ema.copy_at_epoch": 3}
    lines = without_effect(load_recipe(tiny_recipe | given | {"common.finetune_ema": "x.pt"}))
    for key in ("ema.momentum", "ema.warmup", "ema.copy_at_epoch", "common.finetune_ema"):
        assert any(f"{key} has no effect: ema.enable is false" in line for line in lines), key
