"""gradient_checkpointing of the backbone, inside detectors and networks of segmentation."""

import copy

import pytest
import torch

from cvnets.models import encoder
from cvnets.models.classification import vit
from engine import build_model, load_recipe

SMALL = {
    "mobilenetv1": {"mobilenetv1.width_multiplier": 0.25},
    "mobilevit": {"mit.mode": "xx_small", "mit.dropout": 0.1},
    "resnet": {"resnet.depth": 18, "resnet.stochastic_depth_prob": 0.3},
    "vit": {"vit.mode": "tiny", "vit.stochastic_dropout": 0.3, "vit.checkpoint_segments": 3},
}


def networks(recipe, name, classes):
    """Two equal networks, the second of which recomputes."""
    changes = {f"model.classification.{key}": value for key, value in SMALL[name].items()}
    changes["model.classification.name"] = name
    key = "model.classification.mobilenetv1.width_multiplier"
    recipe = {k: v for k, v in recipe.items() if k != key} | changes | classes
    if "anchor_generator.ssd.aspect_ratios" in recipe:
        recipe |= {"anchor_generator.ssd.aspect_ratios": [[2, 3], [2, 3], [2, 3], [2]]}
    plain = build_model(load_recipe(recipe)).double()
    frugal = build_model(
        load_recipe(recipe | {"model.classification.gradient_checkpointing": True})
    ).double()
    frugal.load_state_dict(copy.deepcopy(plain.state_dict()))
    return plain.train(), frugal.train()


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.parametrize("name", SMALL)
def test_gradients_and_statistics_are_the_same(
    kind, name, detection_recipe, segmentation_recipe, monkeypatch
):
    recipe = detection_recipe if kind == "detection" else segmentation_recipe
    plain, frugal = networks(recipe, name, {f"model.{kind}.n_classes": 4})
    calls = []
    for module in (encoder, vit):
        run = module.run_recomputed
        monkeypatch.setattr(
            module, "run_recomputed", lambda s, m, run=run: calls.append(s) or run(s, m)
        )
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    counts = []
    for network in (plain, frugal):
        torch.manual_seed(3)
        output = network(images)
        parts = (
            (output.scores, output.boxes) if kind == "detection" else (output.low_res, output.aux)
        )
        sum(part.square().sum() for part in parts).backward()
        counts.append(len(calls))
    assert counts[0] == 0
    assert counts[1] >= 3
    for (key, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-8, atol=1e-10, msg=key)
    for (key, a), b in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.equal(a, b), key
