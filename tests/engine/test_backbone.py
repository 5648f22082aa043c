"""When detectors and networks of segmentation read the weights of their backbone."""

from __future__ import annotations

import json

import pytest
import torch

import engine
from config.errors import UserError
from engine.parts import build_task

KEY = "model.classification.pretrained"


@pytest.fixture(params=["detection", "segmentation"])
def recipe(request) -> dict:
    """A network for five classes, whose backbone has weights in a file that is not there."""
    recipe = dict(request.getfixturevalue(f"{request.param}_recipe"))
    ratios = "anchor_generator.ssd.aspect_ratios"
    if ratios in recipe:
        recipe[ratios] = json.loads(recipe[ratios])
    return recipe | {f"model.{request.param}.n_classes": 5, KEY: "nowhere.pt"}


def test_the_weights_of_the_backbone_are_read_if_no_others_are_named(recipe):
    with pytest.raises(UserError, match=f"{KEY}: nowhere.pt: no such file"):
        build_task(engine.load_recipe(recipe)).build_model()


def test_they_are_left_alone_where_a_training_state_follows(recipe):
    task = build_task(engine.load_recipe(recipe))
    task.resumed = True
    assert task.build_model().encoder is not None


def test_they_are_left_alone_where_those_of_the_whole_network_are_named(recipe, tmp_path):
    model = build_task(engine.load_recipe(recipe | {KEY: None})).build_model()
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    task = build_task(engine.load_recipe(recipe))
    words = {task.pretrained: str(tmp_path / "whole.pt")}
    again = build_task(engine.load_recipe(recipe | words)).build_model()
    expected, found = model.encoder.state_dict(), again.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
