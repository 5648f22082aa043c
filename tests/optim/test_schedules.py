"""Schedules against the official traces, and their properties."""

import json
import math
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.errors import UserError
from config.registry import compose
from optim import SCHEDULES, SchedulePlan, SchedulerSection, last_warmup_epoch, set_learning_rate
from optim.scheduler import Cosine, CosineOptions, Fixed, FixedOptions

TRACES = Path(__file__).parents[1] / "reference" / "traces"
CHOSEN = ("cosine", "fixed", "polynomial")


def traces():
    for name in ("lr_schedules", "lr_schedules_cvnets_v0.1"):
        for case in json.loads((TRACES / f"{name}.json").read_text())["cases"]:
            if case["config"]["scheduler.name"] in CHOSEN:
                yield pytest.param(case, id=f"{name}-{case['name']}")


def section_of(config):
    """The composed section of a trace's dotted keys."""
    values = {}
    for key, value in config.items():
        *path, last = key.removeprefix("scheduler.").split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return compose(SchedulerSection, SCHEDULES)(**values)


def build(section, steps_per_epoch=10):
    epochs = [steps_per_epoch] * (section.max_epochs or 300)
    last = last_warmup_epoch(section.warmup_iterations or 0, epochs)
    return SCHEDULES.build(section, plan=section.plan(warmup_epochs=last))


def optimizer_with(multipliers):
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr_multiplier": m} for m in multipliers
    ]
    return torch.optim.SGD(groups, lr=0.0)


@pytest.mark.parametrize("case", list(traces()))
def test_official_trace(case):
    config = dict(case["config"])
    if not config["scheduler.is_iteration_based"]:
        config.pop("scheduler.max_iterations", None)
    schedule = build(section_of(config), case["iterations_per_epoch"])
    multipliers = case.get("lr_multipliers", [1.0])
    optimizer = optimizer_with(multipliers)
    assert len(case["lr"]) >= 9
    for iteration, recorded in enumerate(case["lr"]):
        epoch = iteration // case["iterations_per_epoch"]
        written = set_learning_rate(optimizer, schedule(epoch, iteration))
        expected = recorded if isinstance(recorded, list) else [recorded]
        assert [group["lr"] for group in optimizer.param_groups] == written
        assert written == pytest.approx(expected, rel=0, abs=1e-12), f"iteration {iteration}"


def test_all_chosen_traces_are_there():
    names = [param.values[0]["config"]["scheduler.name"] for param in traces()]
    assert {name: names.count(name) for name in CHOSEN} == {
        "cosine": 9,
        "fixed": 1,
        "polynomial": 4,
    }


def test_rounding_comes_after_the_multiplier():
    """0.000768344 * 10: rounding first would give 0.0076834."""
    optimizer = optimizer_with([1.0, 10.0])
    assert set_learning_rate(optimizer, 0.000768344) == [0.00076834, 0.00768344]


def test_optimizer_without_multipliers_gets_the_rate():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0)
    assert set_learning_rate(optimizer, 0.25) == [0.25]


rates = st.floats(1e-6, 1.0)


@st.composite
def cosines(draw):
    low, high = sorted((draw(rates), draw(rates)))
    epochs, steps = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    warmup = draw(st.integers(0, epochs * steps))
    by_steps = draw(st.booleans())
    section = compose(SchedulerSection, SCHEDULES)(
        max_epochs=epochs,
        max_iterations=epochs * steps if by_steps else None,
        is_iteration_based=by_steps,
        adjust_period_for_epochs=draw(st.booleans()),
        warmup_iterations=warmup,
        warmup_init_lr=draw(st.floats(low, high)),
        cosine={"min_lr": low, "max_lr": high},
    )
    return build(section, steps), epochs, steps, low, high


@given(cosines())
def test_cosine_stays_in_bounds_and_has_no_state(drawn):
    schedule, epochs, steps, low, high = drawn
    points = [(iteration // steps, iteration) for iteration in range(epochs * steps)]
    forward = [schedule(*point) for point in points]
    slack = 1e-12 * high
    assert all(low - slack <= rate <= high + slack for rate in forward)
    assert [schedule(*point) for point in reversed(points)] == forward[::-1]
    assert [pickle.loads(pickle.dumps(schedule))(*point) for point in points[:3]] == forward[:3]


@given(st.integers(1, 500), st.integers(1, 5000), rates, rates, st.floats(0.0, 1.0))
def test_warmup_is_linear_and_ends_at_the_peak(warmup, more, low, high, start):
    low, high = sorted((low, high))
    plan = SchedulePlan(
        max_iterations=warmup + more,
        warmup_iterations=warmup,
        warmup_init_lr=start,
        is_iteration_based=True,
    )
    schedule = Cosine(CosineOptions(min_lr=low, max_lr=high), plan)
    slope = (high - start) / warmup
    assert schedule(0, 0) == pytest.approx(start, abs=1e-15)
    assert schedule(0, warmup) == pytest.approx(high, rel=1e-12)
    assert schedule(0, warmup) - schedule(0, warmup - 1) == pytest.approx(slope, abs=1e-12)
    middle = warmup // 2
    assert schedule(0, middle) == pytest.approx(start + middle * slope, rel=1e-12, abs=1e-15)


@given(st.integers(2, 300), rates)
def test_cosine_by_epochs_falls_and_is_constant_within_an_epoch(epochs, high):
    schedule = Cosine(CosineOptions(min_lr=0.0, max_lr=high), SchedulePlan(max_epochs=epochs))
    heights = [schedule(epoch, 1000) for epoch in range(epochs)]
    assert heights[0] == high
    assert all(later < earlier for earlier, later in pairwise(heights))
    assert schedule(epochs - 1, 0) == schedule(epochs - 1, 10**6)
    expected = high * math.cos(math.pi * (epochs - 1) / (2 * epochs)) ** 2
    assert heights[-1] == pytest.approx(expected, rel=1e-6)


def test_cosine_by_hand():
    plan = SchedulePlan(max_epochs=4, warmup_iterations=2, warmup_init_lr=0.1)
    schedule = Cosine(CosineOptions(min_lr=0.2, max_lr=0.6), plan)
    rates_seen = [schedule(0, 0), schedule(0, 1), schedule(2, 2)]
    assert rates_seen == pytest.approx([0.1, 0.35, 0.4], abs=1e-15)


def test_adjusted_period_by_hand():
    """Warm-up in epoch 0 of 5: the period has 5 epochs and starts after epoch 0."""
    plan = SchedulePlan(max_epochs=5, warmup_iterations=3, adjust_period_for_epochs=True)
    assert [plan.progress(epoch, 99) for epoch in (1, 2, 4)] == [0.0, 0.2, 0.6]


@given(st.floats(1e-6, 10.0), st.integers(0, 10**6), st.integers(0, 10**6))
def test_fixed_is_fixed(rate, epoch, iteration):
    assert Fixed(FixedOptions(lr=rate), SchedulePlan())(epoch, iteration) == rate


def test_fixed_needs_a_rate():
    section = section_of({"scheduler.name": "fixed"})
    with pytest.raises(UserError, match=r"^scheduler\.fixed\.lr: the fixed schedule needs a rate"):
        SCHEDULES.build(section, plan=section.plan())


@pytest.mark.parametrize(
    ("warmup", "steps", "epoch"),
    [
        (0, [4, 4], 0),
        (0, [], 0),
        (1, [4, 4], 0),
        (4, [4, 4], 0),
        (5, [4, 4], 1),
        (8, [3, 2, 3, 9], 2),
        (100, [4, 4], 1),
    ],
)
def test_last_warmup_epoch(warmup, steps, epoch):
    assert last_warmup_epoch(warmup, steps) == epoch


def test_last_warmup_epoch_asks_for_no_more_epochs_than_needed():
    def steps():
        yield 5
        yield 5
        raise AssertionError("asked for a third epoch")

    assert last_warmup_epoch(7, steps()) == 1


def test_defaults_of_the_section():
    assert SchedulerSection().plan() == SchedulePlan(300, 10**7, 0, 1e-7, False, False, 0)
    by_steps = SchedulerSection(is_iteration_based=True, max_epochs=12).plan(warmup_epochs=3)
    assert by_steps == SchedulePlan(10**7, 300_000, 0, 1e-7, True, False, 3)


def test_official_default_schedule_is_the_cosine():
    section = section_of({})
    schedule = build(section)
    assert section.name == "cosine"
    assert isinstance(schedule, Cosine)
    assert (schedule.options.max_lr, schedule.options.min_lr) == (0.1, 1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scheduler.cosine.min_lr": 0.2}, "min_lr: 0.2 is above max_lr = 0.1"),
        ({"scheduler.cosine.max_lr": 0.0}, "greater than 0"),
        ({"scheduler.cosine.max_lr": float("nan")}, "finite"),
        ({"scheduler.max_iterations": 50}, "only when is_iteration_based"),
        ({"scheduler.max_epochs": 0}, "greater than or equal to 1"),
        ({"scheduler.warmup_iterations": -1}, "greater than or equal to 0"),
        (
            {
                "scheduler.is_iteration_based": True,
                "scheduler.max_iterations": 50,
                "scheduler.warmup_iterations": 51,
            },
            "warmup_iterations: 51 is more than max_iterations = 50",
        ),
        ({"scheduler.lr_": 0.1}, "Extra inputs"),
    ],
)
def test_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        section_of(config)


def test_plan_refuses_a_warmup_beyond_its_end():
    with pytest.raises(UserError, match=r"^scheduler\.warmup_iterations: the warm-up ends in"):
        SchedulePlan(max_epochs=3, warmup_epochs=3)
    with pytest.raises(UserError, match=r"^scheduler\.warmup_iterations: 9 is more than"):
        SchedulePlan(max_iterations=8, warmup_iterations=9, is_iteration_based=True)
