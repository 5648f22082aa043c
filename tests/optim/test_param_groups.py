"""Parameter groups against the official traces, and by hand."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from config.errors import UserError
from optim import parameter_groups

TRACES = Path(__file__).parents[1] / "reference" / "traces"
SHAPES = json.loads((TRACES / "parameter_shapes.json").read_text())["models"]
CASES = json.loads((TRACES / "param_groups.json").read_text())["cases"]


def module_of(shapes):
    """A model that has nothing but the named parameters (on the meta device)."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, last = name.split(".")
        place = root
        for part in path:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place._modules[part]
        place.register_parameter(last, nn.Parameter(torch.empty(shape, device="meta")))
    return root


def summary(groups):
    return [
        {
            "weight_decay": group["weight_decay"],
            "lr_multiplier": group["lr_multiplier"],
            "n_tensors": len(group["params"]),
            "n_elements": sum(math.prod(parameter.shape) for parameter in group["params"]),
            "first_names": group["names"][:3],
            "last_name": group["names"][-1],
        }
        for group in groups
    ]


def groups_of(model, case):
    factor = case["config"].get("model.segmentation.lr_multiplier")
    return parameter_groups(
        model,
        weight_decay=case["config"]["optim.weight_decay"],
        no_decay_bn_filter_bias=case["config"]["optim.no_decay_bn_filter_bias"],
        lr_multipliers=None if factor is None else {"seg_head": factor},
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_official_trace(case):
    (name,) = [name for name in SHAPES if case["name"].startswith(name)]
    assert summary(groups_of(module_of(SHAPES[name]), case)) == case["groups"]


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case["name"])
def test_official_trace_on_our_model(case):
    cvnets = pytest.importorskip("cvnets")
    if not hasattr(cvnets, "create_model"):
        pytest.skip("cvnets.create_model is not there yet")
    model = cvnets.create_model("mobilevit_xx_small")
    assert summary(groups_of(model, case)) == case["groups"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.encoder_2 = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 2)


def names(groups):
    return [(group["weight_decay"], group["lr_multiplier"], group["names"]) for group in groups]


def test_one_group_decays_all():
    model = Net()
    (group,) = parameter_groups(model, weight_decay=0.1, no_decay_bn_filter_bias=False)
    assert group["names"] == [name for name, _ in model.named_parameters()]
    assert all(a is b for a, b in zip(group["params"], model.parameters(), strict=True))
    assert (group["weight_decay"], group["lr_multiplier"]) == (0.1, 1.0)


def test_dimensions_decide_on_decay():
    groups = parameter_groups(Net(), weight_decay=0.1, no_decay_bn_filter_bias=True)
    assert names(groups) == [
        (0.1, 1.0, ["encoder.0.weight", "encoder_2.weight", "head.weight"]),
        (0.0, 1.0, ["scale", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias", "head.bias"]),
    ]


def test_multiplier_of_a_prefix_ends_at_a_dot_and_the_first_key_holds():
    groups = parameter_groups(
        Net(),
        weight_decay=0.1,
        no_decay_bn_filter_bias=True,
        lr_multipliers={"encoder.1": 3, "encoder": 2, "*.bias": 5},
    )
    assert names(groups) == [
        (0.1, 1.0, ["encoder_2.weight", "head.weight"]),
        (0.0, 1.0, ["scale"]),
        (0.1, 2.0, ["encoder.0.weight"]),
        (0.0, 2.0, ["encoder.0.bias"]),
        (0.0, 3.0, ["encoder.1.weight", "encoder.1.bias"]),
        (0.0, 5.0, ["head.bias"]),
    ]


def test_frozen_parameters_are_left_out_and_may_have_a_multiplier():
    model = Net()
    model.encoder.requires_grad_(False)
    groups = parameter_groups(
        model, weight_decay=0.1, no_decay_bn_filter_bias=False, lr_multipliers={"encoder": 2.0}
    )
    assert names(groups) == [(0.1, 1.0, ["scale", "encoder_2.weight", "head.weight", "head.bias"])]


def test_a_shared_parameter_is_taken_once():
    model = Net()
    model.head.weight = nn.Parameter(torch.zeros(4, 4))
    model.encoder_2.weight = model.head.weight
    groups = parameter_groups(model, weight_decay=0.1, no_decay_bn_filter_bias=True)
    assert [len(group["params"]) for group in groups] == [2, 5]


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"seg_head": 10.0}, "fits no parameter; did you mean head"),
        ({"encodr": 10.0}, "did you mean encoder"),
        ({"encoder": -1.0}, "-1.0 is not possible"),
        ({"encoder": float("nan")}, "nan is not possible"),
    ],
)
def test_refused_multipliers(multipliers, message):
    with pytest.raises(UserError, match=message):
        parameter_groups(
            Net(), weight_decay=0.1, no_decay_bn_filter_bias=False, lr_multipliers=multipliers
        )


def test_nothing_to_train_is_said():
    model = Net().requires_grad_(False)
    with pytest.raises(UserError, match="no parameter that requires a gradient"):
        parameter_groups(model, weight_decay=0.1, no_decay_bn_filter_bias=False)
