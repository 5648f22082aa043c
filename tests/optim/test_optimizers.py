"""Optimizers: official defaults, equality with hand computation, and steps left out on the device."""

import copy

import pytest
import torch
from pydantic import ValidationError

from config.registry import compose
from optim import OPTIMIZERS, OptimSection, set_learning_rate, step_unless

KINDS = {
    "sgd": {"sgd": {"momentum": 0.9}},
    "sgd_nesterov": {"sgd": {"momentum": 0.9, "nesterov": True}},
    "sgd_plain": {"sgd": {"momentum": 0.0}},
    "adam": {"adam": {}},
    "adam_amsgrad": {"adam": {"amsgrad": True, "eps": 1e-6}},
    "adamw": {"adamw": {}},
    "adamw_amsgrad": {"adamw": {"amsgrad": True}},
}


def build(kind="adamw", *, decay=0.0, size=5, seed=0):
    """An optimizer over two tensors of doubles, in two groups."""
    generator = torch.Generator().manual_seed(seed)
    section = compose(OptimSection, OPTIMIZERS)(name=kind.split("_")[0], **KINDS[kind])
    weights = [
        torch.nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))
        for _ in range(2)
    ]
    groups = [
        {"params": [weights[0]], "weight_decay": decay, "lr_multiplier": 1.0, "names": ["a"]},
        {"params": [weights[1]], "weight_decay": 0.0, "lr_multiplier": 10.0, "names": ["b"]},
    ]
    return OPTIMIZERS.build(section, groups=groups), weights


def gradients(weights, step):
    for number, weight in enumerate(weights):
        generator = torch.Generator().manual_seed(100 * step + number)
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def snapshot(optimizer, weights):
    return copy.deepcopy(([w.detach() for w in weights], optimizer.state_dict()["state"]))


def assert_same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=False)


def test_official_defaults():
    section = compose(OptimSection, OPTIMIZERS)()
    assert (section.name, section.weight_decay, section.no_decay_bn_filter_bias) == (
        "sgd",
        4e-5,
        False,
    )
    assert (section.sgd.momentum, section.sgd.nesterov) == (0.9, False)
    adamw, _ = build("adamw")
    assert adamw.defaults["betas"] == (0.9, 0.98)
    assert adamw.defaults["eps"] == 1e-8
    adam, _ = build("adam")
    assert (adam.defaults["betas"], adam.defaults["eps"]) == ((0.9, 0.98), 1e-8)
    assert {"sgd", "adam", "adamw"} <= set(OPTIMIZERS.names())


def test_nothing_moves_before_a_rate_is_set():
    optimizer, weights = build("sgd", decay=0.1)
    before = [weight.detach().clone() for weight in weights]
    gradients(weights, 0)
    optimizer.step()
    assert_same([weight.detach() for weight in weights], before)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_by_hand(nesterov):
    """v = 0.9 v + g; w -= lr * (g + 0.9 v if nesterov else v); decay enters the gradient."""
    optimizer, weights = build("sgd_nesterov" if nesterov else "sgd", decay=0.1)
    hand = [weight.detach().clone() for weight in weights]
    speed = [torch.zeros_like(weight) for weight in hand]
    for step in range(4):
        gradients(weights, step)
        set_learning_rate(optimizer, 0.05)
        step_unless(optimizer, torch.tensor(0.0))
        for number, (rate, decay) in enumerate([(0.05, 0.1), (0.5, 0.0)]):
            gradient = weights[number].grad + decay * hand[number]
            speed[number] = 0.9 * speed[number] + gradient
            change = gradient + 0.9 * speed[number] if nesterov else speed[number]
            hand[number] = hand[number] - rate * change
    torch.testing.assert_close(
        [weight.detach() for weight in weights], hand, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", ["adam", "adam_amsgrad", "adamw"])
def test_adam_by_hand(kind):
    """Adam adds the decay to the gradient, AdamW takes it off the weight; AMSGrad keeps the maximum."""
    optimizer, weights = build(kind, decay=0.1)
    coupled, eps = kind != "adamw", 1e-6 if kind == "adam_amsgrad" else 1e-8
    largest = [torch.zeros_like(weight) for weight in weights]
    hand = [weight.detach().clone() for weight in weights]
    first = [torch.zeros_like(weight) for weight in hand]
    second = [torch.zeros_like(weight) for weight in hand]
    for step in range(1, 5):
        gradients(weights, step)
        set_learning_rate(optimizer, 0.01)
        step_unless(optimizer, torch.tensor(False))
        for n, (rate, decay) in enumerate([(0.01, 0.1), (0.1, 0.0)]):
            gradient = weights[n].grad + coupled * decay * hand[n]
            first[n] = 0.9 * first[n] + 0.1 * gradient
            second[n] = 0.98 * second[n] + 0.02 * gradient**2
            largest[n] = largest[n].maximum(second[n]) if kind == "adam_amsgrad" else second[n]
            move = (first[n] / (1 - 0.9**step)) / ((largest[n] / (1 - 0.98**step)).sqrt() + eps)
            hand[n] = hand[n] * (1 - rate * decay * (not coupled)) - rate * move
    torch.testing.assert_close(
        [weight.detach() for weight in weights], hand, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spoiled", [0, 2])
def test_found_inf_leaves_weights_and_state_untouched(kind, spoiled, uninitialised_is_nan):
    """A run with a step left out equals one that never saw it, also if it is the very first."""
    marred, weights = build(kind, decay=0.1)
    clean, expected = build(kind, decay=0.1)
    for step in range(5):
        set_learning_rate(marred, 0.01)
        set_learning_rate(clean, 0.01)
        if step == spoiled:
            before = snapshot(marred, weights)
            for weight in weights:
                weight.grad = torch.full_like(weight, float("nan"))
            step_unless(marred, torch.tensor(1.0))
            after = snapshot(marred, weights)
            assert_same(after[0], before[0])
            if step > 0:
                assert_same(after[1], before[1])
        gradients(weights, step)
        gradients(expected, step)
        step_unless(marred, torch.tensor(0.0))
        step_unless(clean, torch.tensor(0.0))
    assert_same(snapshot(marred, weights), snapshot(clean, expected))


@pytest.fixture
def uninitialised_is_nan():
    """torch fills memory that it does not initialise with nan: reading it cannot go unnoticed."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_of_the_fused_step(kind):
    """What `step_unless` relies on: a float32 scalar in `found_inf`, None in `grad_scale`."""
    optimizer, weights = build(kind)
    set_learning_rate(optimizer, 0.1)
    gradients(weights, 0)
    before = [weight.detach().clone() for weight in weights]
    optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(1.0)
    optimizer.step()
    assert_same([weight.detach() for weight in weights], before)
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not torch.equal(weights[0].detach(), before[0])


@pytest.mark.parametrize("flag", [torch.tensor(True), torch.tensor(3), torch.tensor([2.0])])
def test_any_flag_that_is_not_zero_leaves_the_step_out(flag):
    optimizer, weights = build("adamw")
    set_learning_rate(optimizer, 0.1)
    gradients(weights, 0)
    before = [weight.detach().clone() for weight in weights]
    step_unless(optimizer, flag)
    assert_same([weight.detach() for weight in weights], before)


def test_an_optimizer_that_is_not_fused_is_skipped_too():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, fused=False)
    weight.grad = torch.ones(3)
    step_unless(optimizer, torch.tensor(1.0))
    assert weight.tolist() == [1.0] * 3
    step_unless(optimizer, torch.tensor(0.0))
    assert weight.tolist() == pytest.approx([0.9] * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_state_survives_a_checkpoint(kind):
    optimizer, weights = build(kind, decay=0.1)
    for step in range(3):
        gradients(weights, step)
        set_learning_rate(optimizer, 0.01)
        step_unless(optimizer, torch.tensor(0.0))
    other, copies = build(kind, decay=0.1, seed=9)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.no_grad():
        for weight, source in zip(copies, weights, strict=True):
            weight.copy_(source)
    for model_weights, own in ((weights, optimizer), (copies, other)):
        gradients(model_weights, 7)
        step_unless(own, torch.tensor(0.0))
    assert_same(snapshot(other, copies), snapshot(optimizer, weights))


def test_a_parameter_that_joins_late_is_trained():
    """Momentum is there for some parameters and not for others."""
    optimizer, weights = build("sgd")
    set_learning_rate(optimizer, 0.1)
    optimizer.param_groups[0]["params"].append(late := torch.nn.Parameter(torch.zeros(2)))
    gradients(weights, 0)
    step_unless(optimizer, torch.tensor(0.0))
    late.grad = torch.ones(2)
    step_unless(optimizer, torch.tensor(0.0))
    assert late.tolist() == pytest.approx([-0.1, -0.1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sgd": {"momentum": 0.0, "nesterov": True}}, "nesterov: needs a momentum above 0"),
        ({"sgd": {"momentum": 1.0}}, "less than 1"),
        ({"adamw": {"beta2": 1.0}}, "less than 1"),
        ({"adamw": {"eps": 0.0}}, "greater than 0"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"weight_decay": True}, "valid number"),
        ({"adamw": {"beta3": 0.5}}, "Extra inputs"),
    ],
)
def test_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        compose(OptimSection, OPTIMIZERS)(**values)
