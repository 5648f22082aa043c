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
from optim.scheduler import (
    Cosine,
    CosineOptions,
    Cyclic,
    CyclicOptions,
    Fixed,
    FixedOptions,
    MultiStep,
    MultiStepOptions,
)

TRACES = Path(__file__).parents[1] / "reference" / "traces"


def traces():
    for name in ("lr_schedules", "lr_schedules_cvnets_v0.1"):
        for case in json.loads((TRACES / f"{name}.json").read_text())["cases"]:
            yield pytest.param(case, id=f"{name}-{case['name']}")


def section_of(config):
    """The composed section of a trace's dotted keys."""
    values = {}
    for key, value in config.items():
        *path, last = key.removeprefix("scheduler.").split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[last] = tuple(value) if isinstance(value, list) else value
    return compose(SchedulerSection, SCHEDULES)(**values)


def build(section, steps_per_epoch=10):
    epochs = [steps_per_epoch] * (section.max_epochs or 300)
    warmup = section.warmup_iterations or 0
    last, first = (last_warmup_epoch(steps, epochs) for steps in (warmup, warmup + 1))
    return SCHEDULES.build(section, plan=section.plan(warmup_epochs=last, first_epoch=first))


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
    # release main computes the rates of the cycles in float32
    slack = 2e-8 if config["scheduler.name"] == "cyclic" else 1e-12
    assert len(case["lr"]) >= 9
    for iteration, recorded in enumerate(case["lr"]):
        epoch = iteration // case["iterations_per_epoch"]
        written = set_learning_rate(optimizer, schedule(epoch, iteration))
        expected = recorded if isinstance(recorded, list) else [recorded]
        assert [group["lr"] for group in optimizer.param_groups] == written
        assert written == pytest.approx(expected, rel=0, abs=slack), f"iteration {iteration}"


def test_all_traces_are_there():
    names = [param.values[0]["config"]["scheduler.name"] for param in traces()]
    counts = {"cosine": 9, "fixed": 1, "polynomial": 4, "multi_step": 1, "cyclic": 4}
    assert {name: names.count(name) for name in names} == counts
    assert set(SCHEDULES.names()) == set(counts)


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


def test_multi_step_by_hand():
    schedule = MultiStep(MultiStepOptions(lr=0.8, gamma=0.5, milestones=(2, 4)), SchedulePlan())
    assert [schedule(epoch, 7) for epoch in range(6)] == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
    assert MultiStep(MultiStepOptions(milestones=(2,)), SchedulePlan())(9, 9) == 0.1


@pytest.mark.parametrize(
    ("warmup", "milestone", "rates_seen"),
    [
        # the warm-up ends with epoch 1: a milestone there is passed over, one behind it is not
        (8, 1, {2: 0.1, 5: 0.1}),
        (8, 2, {2: 0.05, 5: 0.05}),
        (7, 1, {1: 0.05, 2: 0.05}),
    ],
)
def test_a_milestone_counts_where_a_step_is_behind_the_warmup(warmup, milestone, rates_seen):
    config = {"scheduler.name": "multi_step", "scheduler.warmup_iterations": warmup}
    config |= {"scheduler.multi_step.gamma": 0.5, "scheduler.multi_step.milestones": (milestone,)}
    schedule = build(section_of(config), steps_per_epoch=4)
    assert {epoch: schedule(epoch, 4 * epoch + 3) for epoch in rates_seen} == rates_seen


def test_cyclic_by_hand():
    """Two cycles of three epochs, halved at epoch 1 and quartered more at epoch 4, then a line."""
    options = CyclicOptions(
        min_lr=1.0, total_cycles=3, epochs_per_cycle=3, steps=(1, 4), last_cycle_end_lr=0.025
    )
    schedule = Cyclic(options, SchedulePlan(max_epochs=10))
    seen = [schedule(epoch, 0) for epoch in range(10)]
    assert seen == pytest.approx(
        [1.0, 1.5, 1.0, 0.5, 3 / 8, 2 / 8, 1 / 8, 0.075, 0.05, 0.025], rel=1e-12
    )


@pytest.mark.parametrize(("first", "factor"), [(0, 0.5), (1, 0.5), (2, 1.0)])
def test_a_step_of_the_cycles_counts_where_the_warmup_is_over(first, factor):
    options = CyclicOptions(min_lr=1.0, total_cycles=3, epochs_per_cycle=1, steps=(1,))
    schedule = Cyclic(options, SchedulePlan(max_epochs=10, first_epoch=first))
    assert schedule(2, 0) == factor


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 30), st.booleans())
def test_cyclic_stays_between_its_rates(cycles, length, tail, cosine):
    kind = "cosine" if cosine else "linear"
    options = CyclicOptions(
        min_lr=0.1,
        total_cycles=cycles,
        epochs_per_cycle=length,
        last_cycle_type=kind,
        last_cycle_end_lr=0.01,
    )
    total = (cycles - 1) * length + 1 + tail
    schedule = Cyclic(options, SchedulePlan(max_epochs=total))
    seen = [schedule(epoch, 5) for epoch in range(total)]
    cycled, last = seen[: (cycles - 1) * length], seen[(cycles - 1) * length :]
    assert all(0.1 <= rate <= 0.1 * length + 1e-12 for rate in cycled)
    assert all(0.01 - 1e-12 <= rate <= 0.1 for rate in last)
    assert last == sorted(last, reverse=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scheduler.is_iteration_based": True}, r"^scheduler\.is_iteration_based: the cyclic"),
        (
            {"scheduler.cyclic.steps": (10, 51)},
            r"^scheduler\.cyclic\.steps: epoch 51 lies in the last",
        ),
    ],
)
def test_what_a_cyclic_schedule_refuses(config, message):
    section = section_of({"scheduler.name": "cyclic"} | config)
    with pytest.raises(UserError, match=message):
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
    assert SchedulerSection().plan() == SchedulePlan(300, 10**7, 0, 1e-7, False, False, 0, 0)
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
        ({"scheduler.multi_step.milestones": (3, 3)}, "each once, in rising order"),
        ({"scheduler.multi_step.milestones": (-1, 3)}, "epochs from 0 on"),
        ({"scheduler.cyclic.steps": (5, 2)}, "in rising order"),
        ({"scheduler.cyclic.last_cycle_type": "sine"}, "'linear' or 'cosine'"),
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
