"""Old spellings: one table, each use is said, and a key of today wins over an old one."""

import pytest
import yaml

from config.legacy import OLD_KEYS, OLD_VALUES, OPPOSITES, translate
from engine.reading import load_recipe
from engine.recipe import recipe_type
from engine.resolved import flat

# old key, value as an official file has it, keys of today, their values; from the list of old
# spellings that was drawn up from the releases, not from the table under test
ROWS = [
    ("stats.name", ["loss", "top5"], ("stats.train", "stats.val"), ("loss", "top5")),
    (
        "loss.classification.label_smoothing_factor",
        0.1,
        ("loss.classification.cross_entropy.label_smoothing",),
        0.1,
    ),
    (
        "loss.classification.label_smoothing",
        0.2,
        ("loss.classification.cross_entropy.label_smoothing",),
        0.2,
    ),
    (
        "loss.ignore_idx",
        255,
        (
            "loss.classification.cross_entropy.ignore_index",
            "loss.segmentation.cross_entropy.ignore_index",
        ),
        255,
    ),
    ("sampler.bs.num_repeats", 3, ("sampler.num_repeats",), 3),
    ("sampler.vbs.num_repeats", 4, ("sampler.num_repeats",), 4),
    ("common.finetune_imagenet1k", "w.pt", ("common.finetune",), "w.pt"),
    (
        "model.detection.ssd.anchors_aspect_ratio",
        [[2], [2], [2, 3], [2], [2], [3]],
        ("anchor_generator.ssd.aspect_ratios",),
        ((2.0,), (2.0,), (2.0, 3.0), (2.0,), (2.0,), (3.0,)),
    ),
    (
        "model.detection.ssd.output_strides",
        [8, 16, 32, 64, 128, -1],
        ("anchor_generator.ssd.output_strides",),
        (8, 16, 32, 64, 128, -1),
    ),
    ("model.detection.ssd.min_box_size", 0.2, ("anchor_generator.ssd.min_scale_ratio",), 0.2),
    ("model.detection.ssd.max_box_size", 0.9, ("anchor_generator.ssd.max_scale_ratio",), 0.9),
    ("model.detection.ssd.center_variance", 0.3, ("matcher.ssd.center_variance",), 0.3),
    ("model.detection.ssd.size_variance", 0.4, ("matcher.ssd.size_variance",), 0.4),
    ("model.detection.ssd.iou_threshold", 0.6, ("matcher.ssd.iou_threshold",), 0.6),
]
WITHOUT_EFFECT = {
    "ddp.enable": True,
    "ddp.disable": False,
    "ddp.rank": 0,
    "ddp.world_size": -1,
    "ddp.dist_url": "tcp://host:1",
    "ddp.dist_port": 30786,
    "common.bolt_logging": True,
    "model.layer.conv_weight_std": 0.01,
    "model.detection.replace_stride_with_dilation": True,
    "model.segmentation.replace_stride_with_dilation": True,
    "model.segmentation.norm_layer": "batch_norm",
    "model.segmentation.classifier_dropout": 0.1,
    "evaluation.detection.save_overlay_boxes": True,
}
VALUES = {
    ("loss.classification.name", "label_smoothing"): "cross_entropy",
    ("model.normalization.name", "sbn"): "sync_batch_norm",
    ("stats.checkpoint_metric", "coco_map"): "coco_map.bbox",
}


def value_of(recipe, dotted):
    for part in dotted.split("."):
        recipe = getattr(recipe, part)
    return recipe


def write(tmp_path, mapping):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(mapping))
    return path


def test_the_table_is_covered_and_holds_no_key_of_today():
    assert {row[0] for row in ROWS} | set(WITHOUT_EFFECT) == set(OLD_KEYS)
    assert set(VALUES) == set(OLD_VALUES)
    for old in OLD_KEYS:
        *sections, name = old.split(".")
        kind = recipe_type()
        for section in sections:
            kind = kind.fields()[section].annotation
        assert name not in kind.fields(), old


@pytest.mark.parametrize(("old", "given", "new", "value"), ROWS)
def test_an_old_key_is_read_as_the_new_one(old, given, new, value, tmp_path):
    path = write(tmp_path, {old: given})
    recipe = load_recipe(path)
    for key in new:
        assert value_of(recipe, key) == value
        assert recipe.origins[key] == f"{path}:1"
    read_as = " and ".join(f"read as {key}" for key in new)
    assert recipe.notes == (f"{path}:1: old key {old}: {read_as}",)
    default = flat(load_recipe({}))
    changed = {key for key, v in flat(recipe).items() if v != default.get(key)}
    assert changed == set(new)


@pytest.mark.parametrize(("old", "given", "new", "value"), ROWS)
def test_the_key_of_today_wins(old, given, new, value, tmp_path):
    mine = {"stats.train": ["top1"], "stats.val": ["top1"], "common.finetune": "mine.pt"}
    mine |= {"anchor_generator.ssd.aspect_ratios": [[3], [3], [3], [3], [3], [3]]}
    mine |= {"anchor_generator.ssd.output_strides": [16, 32, 64, 128, 256, 512]}
    todays = {key: mine.get(key, 0 if "smoothing" in key else 1) for key in new}
    for order in ({old: given} | todays, todays | {old: given}):
        recipe = load_recipe(order)
        for key in todays:
            assert value_of(recipe, key) == value_of(load_recipe(todays), key)
        ignored = " and ".join(f"ignored, {key} is given" for key in new)
        assert recipe.notes == (f"python: old key {old}: {ignored}",)


@pytest.mark.parametrize(("old", "given"), WITHOUT_EFFECT.items())
def test_a_key_without_effect_is_named_and_ignored(old, given):
    recipe = load_recipe({old: given})
    assert flat(recipe) == flat(load_recipe({}))
    (note,) = recipe.notes
    assert note.startswith(f"python: old key {old}: ignored, ")


@pytest.mark.parametrize(("old", "new"), VALUES.items())
def test_an_old_value_is_read_as_the_new_one(old, new):
    key, given = old
    measured = ["dataset.category=detection", "stats.val=coco_map,loss"]
    measured += ["stats.checkpoint_metric_max=true"]
    recipe = load_recipe(None, [f"{key}={given}", *(measured if key.startswith("stats.") else ())])
    assert value_of(recipe, key) == new
    assert recipe.notes == (f"command line: old value {key}={given} read as {new}",)


@pytest.mark.parametrize(("given", "read"), [("true", False), ("False", True)])
def test_a_switch_that_was_turned_round_is_read_as_its_opposite(given, read):
    old, new = next(iter(OPPOSITES.items()))
    recipe = load_recipe(None, [f"{old}={given}"])
    assert value_of(recipe, new) is read
    assert recipe.notes == (f"command line: old key {old}: read as the opposite of {new}",)
    both = load_recipe(None, [f"{old}={given}", f"{new}={str(not read).lower()}"])
    assert value_of(both, new) is not read


def test_two_old_keys_for_one_new_the_first_wins():
    recipe = load_recipe(
        {
            "loss.classification.label_smoothing": 0.3,
            "loss.classification.label_smoothing_factor": 0.1,
        }
    )
    assert recipe.loss.classification.cross_entropy.label_smoothing == 0.3
    assert recipe.notes[1].endswith("ignored, loss.classification.label_smoothing is given")


def test_a_wrong_value_is_reported_at_the_old_place_under_the_new_key(tmp_path):
    from config.errors import RecipeError

    path = write(tmp_path, {"loss": {"classification": {"label_smoothing": 2}}})
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert error.value.lines() == [
        f"{path}:3: loss.classification.cross_entropy.label_smoothing: must be below 1 ('2' given)"
    ]


def test_a_recipe_of_today_is_left_alone(parsed):
    text = "a: {b: [1, {c: 2}], d: x}\ne: ~\nf: {}"
    tree = parsed(text)
    assert translate(tree) == []
    assert tree == parsed(text)


def test_sections_keep_their_places_and_vanish_when_nothing_is_left(parsed):
    tree = parsed(
        "stats:\n  name: top1\n  other: 1\nddp:\n  enable: true\nsampler:\n  bs: {num_repeats: 2}"
    )
    translate(tree)
    assert set(tree.data) == {"stats", "sampler"}
    assert set(tree.data["sampler"].data) == {"num_repeats"}
    assert tree.data["stats"].place == "r.yaml:1"
