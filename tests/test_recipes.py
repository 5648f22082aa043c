"""Shipped recipes: resolved text, parameters, and equality with the official files."""

import json
import os
from pathlib import Path

import pytest

from engine import build_model, load_recipe
from engine.pretrained import pretrained_key
from engine.reading import shipped_recipes
from engine.recipe import RECIPES
from engine.resolved import flat

HERE = Path(__file__).parent
NAMES = [str(path.relative_to(RECIPES)) for path in shipped_recipes()]


def test_there_are_recipes():
    assert "demo/classification.yaml" in NAMES
    for start, count in (
        ("classification/imagenet/mobilevit", 3),
        ("detection/ssd_coco/mobilevit", 8),
        ("detection/ssd_coco/", 12),
    ):
        assert len([name for name in NAMES if name.startswith(start)]) == count


@pytest.mark.parametrize("name", NAMES)
def test_resolved_text_is_the_stored_one(name):
    """A changed default shows in review: UPDATE_GOLDEN=1 writes the files anew."""
    recipe = load_recipe(RECIPES / name)
    section = pretrained_key(recipe).rpartition(".")[0]
    classes = flat(recipe)[f"{section}.n_classes"] or 1000
    bare = [f"{section}.n_classes={classes}", "model.classification.pretrained=null"]
    model = build_model(load_recipe(RECIPES / name, bare))
    lines = [f"{key}: {json.dumps(value)}" for key, value in flat(recipe).items()]
    lines.append(
        f"# parameters with {classes} classes: {sum(p.numel() for p in model.parameters())}"
    )
    text = "\n".join(lines) + "\n"
    golden = HERE / "golden" / (name.removesuffix(".yaml").replace("/", "_") + ".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize(
    ("name", "mode", "dropout"),
    [
        ("mobilevit.yaml", "small", 0.1),
        ("mobilevit_x_small.yaml", "x_small", 0.1),
        ("mobilevit_xx_small.yaml", "xx_small", 0.05),
    ],
)
def test_imagenet_recipe_has_every_value_of_the_official_one(name, mode, dropout):
    """Except for labels and paths, which are the user's."""
    official = json.loads((HERE / "reference" / "recipe_mobilevit_imagenet.json").read_text())
    official |= {"model.classification.mit.mode": mode, "model.classification.mit.dropout": dropout}
    ours = flat(load_recipe(RECIPES / "classification/imagenet" / name))
    for key, value in official.items():
        if key in ("taskname", "common.run_label", "dataset.root_train", "dataset.root_val"):
            continue
        assert ours[key] == (tuple(value) if isinstance(value, list) else value), key


def test_official_file_is_read_as_it_is():
    """The official recipe as a mapping, with nothing but the class count given."""
    official = json.loads((HERE / "reference" / "recipe_mobilevit_imagenet.json").read_text())
    recipe = load_recipe(official)
    assert recipe.model.classification.mit.number_heads == 4
    assert recipe.notes == ()


# --- detection -----------------------------------------------------------------------------------

DETECTION = json.loads((HERE / "reference" / "recipes_detection.json").read_text())
# keys that are the user's, and those that an old spelling stands for
OWN = ("taskname", "common.run_label", "dataset.root_train", "dataset.root_val", "dataset.workers")
OWN += ("dataset.persistent_workers", "dataset.pin_memory", "dataset.eval_batch_size0")
OWN += ("common.accum_after_epoch", "model.classification.pretrained")
OLD = ("ddp.", "stats.name", "model.layer.conv_weight_std", "model.detection.ssd.")


@pytest.mark.parametrize("name", DETECTION)
def test_every_official_detection_recipe_is_read_as_it_is(name):
    """Releases v0.1 to main and both folders of MobileViTv3: nothing refused, nothing left out."""
    recipe = load_recipe(DETECTION[name])
    assert recipe.anchor_generator.ssd.min_scale_ratio == 0.1
    assert recipe.anchor_generator.ssd.max_scale_ratio == 1.05
    assert recipe.anchor_generator.ssd.output_strides[:4] == (16, 32, 64, 128)
    assert recipe.matcher.ssd.iou_threshold == 0.5
    assert recipe.model.detection.ssd.nms_iou_threshold == 0.5
    old = name.startswith(("v0.1", "mobilevitv3-v1"))
    assert any("read as anchor_generator.ssd.aspect_ratios" in note for note in recipe.notes) == old


@pytest.mark.parametrize(
    ("ours", "official", "other"),
    [
        ("mobilevit", "v0.1/detection/ssd_mobilevit_small_320", {}),
        ("mobilevit_x_small", "v0.1/detection/ssd_mobilevit_x_small_320", {}),
        ("mobilevit_xx_small", "v0.1/detection/ssd_mobilevit_xx_small_320", {}),
        ("mobilevit_v2", "main/detection/ssd_coco/mobilevit_v2", {}),
        ("resnet", "main/detection/ssd_coco/resnet", {}),
        ("mobilevit_v3_small", "mobilevitv3-v1/detection/ssd_mobilevitv3_small_320", {}),
        ("mobilevit_v3_x_small", "mobilevitv3-v1/detection/ssd_mobilevitv3_x_small_320", {}),
        ("mobilevit_v3_xx_small", "mobilevitv3-v1/detection/ssd_mobilevitv3_xx_small_320", {}),
        (
            "mobilevit_v3",
            "mobilevitv3-v2/detection/ssd_coco/mobilevit_v3",
            {"model.classification.mitv3.width_multiplier": 1.0},  # the widest with weights
        ),
    ],
)
def test_detection_recipe_has_every_value_of_the_official_one(ours, official, other):
    """Except for labels, paths, and the metric that ranks (the first release had the loss only)."""
    ranks = ("stats.checkpoint_metric", "stats.checkpoint_metric_max")
    values = flat(load_recipe(RECIPES / f"detection/ssd_coco/{ours}.yaml"))
    read = flat(load_recipe(DETECTION[f"{official}.yaml"]))
    for key in DETECTION[f"{official}.yaml"]:
        if key not in (*OWN, *ranks) and not key.startswith(OLD):
            assert values[key] == other.get(key, read[key]), key
    for key in read:
        if key.startswith(("anchor_generator.", "matcher.", "model.detection.ssd.")):
            assert values[key] == read[key], key
    assert values["stats.checkpoint_metric"] == "coco_map.bbox"
