"""Learning rates that fall from the last layer to the first."""

import pytest

import cvnets
from config.errors import UserError
from engine import load_recipe
from engine.layer_decay import layer_multipliers
from engine.parts import build_task
from engine.tasks.segmentation import Segmentation
from optim import parameter_groups

DECAY = {
    "model.classification.enable_layer_wise_lr_decay": True,
    "model.classification.layer_wise_lr_decay_rate": 0.5,
}


def section(**changes):
    return load_recipe(DECAY | changes).model.classification


def rates(groups):
    return {name: group["lr_multiplier"] for group in groups for name in group["names"]}


def groups_of(model, multipliers):
    return parameter_groups(
        model, weight_decay=0.1, no_decay_bn_filter_bias=True, lr_multipliers=multipliers
    )


def test_blocks_of_a_vision_transformer():
    """One pair of groups per layer: tokens, 12 blocks, what is behind them."""
    model = cvnets.create_model("vit_tiny", n_classes=5)
    groups = groups_of(model, layer_multipliers(section(), model))
    assert len(groups) == 2 * 14
    found = rates(groups)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    assert found["cls_token"] == found["patch_emb.0.block.conv.weight"] == 0.5**13
    blocks = {name.split(".")[1]: rate for name, rate in found.items() if "transformer." in name}
    assert blocks == {str(block): 0.5 ** (12 - block) for block in range(12)}
    behind = {rate for name, rate in found.items() if name.startswith(("post_", "classifier"))}
    assert behind == {1.0}


def test_stages_of_other_networks():
    model = cvnets.create_model("mobilevit_xx_small", n_classes=5)
    found = rates(groups_of(model, layer_multipliers(section(), model)))
    stages = {name.partition(".")[0]: rate for name, rate in found.items()}
    order = ["conv_1", *(f"layer_{n}" for n in range(1, 6)), "conv_1x1_exp", "classifier"]
    assert stages == {name: 0.5 ** (7 - depth) for depth, name in enumerate(order)}


def test_inside_a_network_of_segmentation_the_head_has_its_own(segmentation_recipe):
    """lr_multiplier of the recipe, 4, for the head; the last stage of the backbone has 1."""
    task = build_task(load_recipe(segmentation_recipe | DECAY))
    assert isinstance(task, Segmentation)
    task.build_source("train")
    model = task.build_model()
    found = rates(groups_of(model, task.lr_multipliers(model)))
    assert {rate for name, rate in found.items() if not name.startswith("encoder.")} == {4.0}
    of_stage = {n.split(".")[1]: r for n, r in found.items() if n.startswith("encoder.")}
    assert of_stage == {
        "conv_1": 0.5**5,
        **{f"layer_{number}": 0.5 ** (5 - number) for number in range(1, 6)},
    }


def test_all_layers_are_equal_unless_the_recipe_asks():
    model = cvnets.create_model("vit_tiny", n_classes=5)
    assert layer_multipliers(load_recipe({}).model.classification, model) == {}


def test_unknown_layers_are_refused():
    pytest.importorskip("torchvision")
    model = cvnets.create_model("torchvision/resnet18", n_classes=5)
    with pytest.raises(
        UserError, match=r"lr_decay: the layers of torchvision/resnet18 are not known"
    ):
        layer_multipliers(section(**{"model.classification.name": "torchvision/resnet18"}), model)
