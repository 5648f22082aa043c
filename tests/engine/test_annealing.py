"""The momentum of batch norms during training, and that the trainer sets it and the learning rate."""

import json
import math
from pathlib import Path

import pytest
from torch import nn

from cvnets.layers.norm import MomentumAnnealingOptions
from engine import load_recipe, train
from engine.annealing import MomentumAnnealing
from engine.effects import without_effect
from optim import SchedulePlan

BY_STEPS = SchedulePlan(max_iterations=110, warmup_iterations=10, is_iteration_based=True)
BY_EPOCHS = SchedulePlan(max_epochs=10, warmup_iterations=10)


def network():
    return nn.Sequential(
        nn.BatchNorm2d(4, momentum=0.2), nn.GroupNorm(1, 4), nn.BatchNorm1d(4, momentum=0.1)
    )


def annealed(kind, plan, epoch, iteration, model=None):
    model = network() if model is None else model
    options = MomentumAnnealingOptions(enable=True, anneal_type=kind, final_momentum_value=0.04)
    MomentumAnnealing(options, plan, model)(epoch, iteration)
    return [model[0].momentum, model[2].momentum]


@pytest.mark.parametrize(
    ("plan", "epoch", "iteration", "linear"),
    [
        (BY_STEPS, 0, 9, [0.2, 0.1]),
        (BY_STEPS, 3, 10, [0.2, 0.1]),
        (BY_STEPS, 3, 60, [0.12, 0.07]),
        (BY_STEPS, 3, 110, [0.04, 0.04]),
        (BY_STEPS, 3, 500, [0.04, 0.04]),
        (BY_EPOCHS, 5, 9, [0.2, 0.1]),
        (BY_EPOCHS, 5, 77, [0.12, 0.07]),
        (BY_EPOCHS, 10, 99, [0.04, 0.04]),
    ],
)
def test_linear_by_hand(plan, epoch, iteration, linear):
    assert annealed("linear", plan, epoch, iteration) == pytest.approx(linear, rel=1e-12)


def test_cosine_by_hand():
    """A quarter of the way: (1 + cos 45 degrees) / 2 of the fall is left."""
    left = (1 + math.cos(math.pi / 4)) / 2
    assert annealed("cosine", BY_STEPS, 0, 35) == pytest.approx(
        [0.04 + 0.16 * left, 0.04 + 0.06 * left], rel=1e-12
    )
    assert annealed("cosine", BY_STEPS, 0, 110) == pytest.approx([0.04, 0.04])


def test_each_step_is_computed_from_the_start():
    """Twice at the same place gives the same, and going back leads back."""
    model = network()
    options = MomentumAnnealingOptions(enable=True)
    annealing = MomentumAnnealing(options, BY_STEPS, model)
    seen = []
    for iteration in (70, 70, 20, 70):
        annealing(0, iteration)
        seen.append(model[0].momentum)
    assert seen[0] == seen[1] == seen[3] < seen[2] < 0.2


def test_norms_in_evaluation_mode_and_a_plain_mean_stay():
    model = network()
    model[0].eval()
    assert annealed("linear", BY_STEPS, 0, 60, model) == pytest.approx([0.2, 0.07])
    model = network()
    model[0].momentum = None
    assert annealed("linear", BY_STEPS, 0, 60, model) == [None, pytest.approx(0.07)]


def test_nothing_happens_by_default():
    model = network()
    MomentumAnnealing(MomentumAnnealingOptions(), BY_STEPS, model)(0, 60)
    assert [model[0].momentum, model[2].momentum] == [0.2, 0.1]


KEY = "model.normalization.adjust_bn_momentum"


def test_the_trainer_sets_it_before_each_step(tiny_recipe, monkeypatch):
    seen, original = [], nn.BatchNorm2d.forward

    def forward(self, maps):
        seen.append(self.momentum if self.training else None)
        return original(self, maps)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", forward)
    changes = {"model.classification.tiny.norm": True, "scheduler.max_epochs": 4}
    changes |= {f"{KEY}.enable": True, f"{KEY}.anneal_type": "linear"}
    train(load_recipe(tiny_recipe | changes | {f"{KEY}.final_momentum_value": 0.0}))
    in_training = [momentum for momentum in seen if momentum is not None]
    assert list(dict.fromkeys(in_training)) == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert in_training == sorted(in_training, reverse=True)


@pytest.mark.parametrize(("milestone", "rate"), [(0, 0.1), (1, 0.05)])
def test_the_trainer_knows_where_the_warmup_ends(tiny_recipe, milestone, rate):
    """A warm-up of just the first epoch passes over a milestone in it, and not over the next."""
    steps = {"gamma": 0.5, "milestones": [milestone]}
    recipe = tiny_recipe | {"scheduler.name": "multi_step", "scheduler.multi_step": steps}
    recipe |= {"sampler.name": "batch_sampler", "scheduler.warmup_iterations": 9}
    recipe |= {f"sampler.bs.crop_size_{side}": 32 for side in ("width", "height")}
    folder = Path(train(load_recipe(recipe))["run"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rates = [(r["epoch"], r["lr"]) for r in lines if r["kind"] == "step"]
    assert len(rates) == 18  # 72 images, 8 a step, two epochs
    assert {lr for epoch, lr in rates if epoch == 1} == {rate}
    assert max(lr for epoch, lr in rates if epoch == 0) < 0.1


def test_options_that_have_no_effect(tiny_recipe):
    given = {f"{KEY}.final_momentum_value": 0.1, "scheduler.adjust_period_for_epochs": True}
    given |= {"scheduler.name": "multi_step", "scheduler.multi_step.milestones": [3]}
    lines = without_effect(load_recipe(tiny_recipe | given))
    for key, reason in (
        (f"{KEY}.final_momentum_value", "adjust_bn_momentum.enable is false"),
        ("scheduler.adjust_period_for_epochs", "only the cosine and polynomial schedules"),
        ("scheduler.multi_step.milestones", "gamma is null"),
    ):
        assert any(f"{key} has no effect: {reason}" in line for line in lines), key
    layer = {"model.normalization.name": "layer_norm", f"{KEY}.enable": True}
    assert any(
        f"{KEY}.enable has no effect: layer_norm keeps no running statistics" in line
        for line in without_effect(load_recipe(tiny_recipe | layer))
    )
