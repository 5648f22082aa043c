"""Parts of a network that are not trained."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import cvnets
import engine
from config.errors import UserError
from cvnets.layers.norm import FrozenBatchNorm
from engine import load_recipe, train
from engine.ema import ModelEma
from engine.freezing import freeze_modules

KEY = "model.freeze_modules"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.body(self.stem(images)).mean((2, 3))) * self.scale


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("given", "frozen", "in_evaluation", "trained"),
    [
        ("", (), (), {"scale", "stem", "body", "head"}),
        ("stem", ("stem",), ("stem", "stem.0", "stem.1", "stem.2"), {"scale", "body", "head"}),
        ("st, head", ("stem", "head"), ("stem", "stem.1", "head"), {"scale", "body"}),
        ("scale", ("scale",), (), {"stem", "body", "head"}),
        (r"body\.0\.1$", ("body.0.1",), ("body.0.1",), {"scale", "stem", "body", "head"}),
        (r".*\.1", ("stem.1", "body.0.1"), ("stem.1", "body.0.1"), {"scale", "stem", "body", "head"}),
    ],
)  # fmt: skip
def test_what_a_pattern_freezes(given, frozen, in_evaluation, trained):
    model = Net()
    assert set(freeze_modules(model, given)) == set(frozen)
    model.train()
    for name, module in model.named_modules():
        inside = any(f"{name}.".startswith(f"{part}.") for part in frozen if part != "scale")
        assert module.training != inside, name
        assert name not in in_evaluation or not module.training
    assert {name.partition(".")[0] for name in trained_names(model)} == trained
    for name in frozen:
        assert not any(left == name or left.startswith(f"{name}.") for left in trained_names(model))


def test_frozen_parts_do_not_change_and_a_copy_is_frozen_as_well():
    model = Net()
    freeze_modules(model, "stem")
    ema = ModelEma(model, 0.5)
    for network in (model, copy.deepcopy(model)):
        before = {k: v.clone() for k, v in network.stem.state_dict().items()}
        network.train()
        images = torch.randn(8, 3, 8, 8)
        first, second = network.stem(images), network.stem(images)
        assert torch.equal(first, second)  # no dropout
        optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
        network(images).square().mean().backward()
        optimizer.step()
        after = network.stem.state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert not ema.model.stem.training


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("stme", r"^model\.freeze_modules: 'stme' fits no module and no parameter; did you mean stem"),
        ("stem, encoder", "'encoder' fits no module and no parameter; allowed: body, head, stem"),
        ("stem(", r"'stem\(' is no regular expression"),
    ],
)  # fmt: skip
def test_refused_patterns(given, message):
    with pytest.raises(UserError, match=message):
        freeze_modules(Net(), given)


def test_a_training_leaves_them_as_they_were(tiny_recipe, caplog):
    recipe = tiny_recipe | {"model.classification.tiny.norm": True, "ema.enable": True}
    start = engine.build_model(load_recipe(recipe | {"model.classification.n_classes": 3}))
    weights = Path(tiny_recipe["common.results_loc"]).parent / "start.pt"
    torch.save(start.state_dict(), weights)
    changes = {KEY: "0,1", "model.classification.pretrained": str(weights)}
    with caplog.at_level("INFO"):
        folder = Path(train(load_recipe(recipe | changes))["run"])
    assert "frozen: 0, 1; 219 parameters are trained" in caplog.text
    for name in ("checkpoint_last.pt", "checkpoint_ema_last.pt"):
        state = torch.load(folder / name)
        for key, value in start.state_dict().items():
            assert torch.equal(state[key], value) == key.startswith(("0.", "1.")), (name, key)


def test_nothing_left_to_train_is_said(tiny_recipe):
    with pytest.raises(UserError, match="no parameter that requires a gradient"):
        train(load_recipe(tiny_recipe | {KEY: ".*"}))


def test_batch_norms_of_a_classifier():
    """Of every part of it; what has none is refused."""
    recipe = {
        "model.classification.name": "resnet",
        "model.classification.resnet.depth": 18,
        "model.classification.n_classes": 5,
        "model.classification.freeze_batch_norm": True,
    }
    model = engine.build_model(load_recipe(recipe)).train()
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm)]
    plain = cvnets.create_model("resnet18", n_classes=5)
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules()) > 17
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert model.state_dict().keys() == plain.state_dict().keys()
    without = recipe | {"model.normalization.name": "group_norm"}
    with pytest.raises(UserError, match=r"freeze_batch_norm: the network has no batch norm to"):
        engine.build_model(load_recipe(without))
