"""Old spellings: one table, each use is said, and a key of today wins over an old one."""

import pytest
import yaml

from config.errors import RecipeError
from config.legacy import CONVERTED, OLD_KEYS, OLD_VALUES, translate
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
    ("stats.save_all_checkpoints", True, ("common.save_all_checkpoints",), True),
    ("common.finetune_imagenet1k_ema", "e.pt", ("common.finetune_ema",), "e.pt"),
    (
        "loss.distillation.label_smoothing",
        0.3,
        ("loss.distillation.hard_distillation.label_smoothing",),
        0.3,
    ),
    ("stats.metrics.prob_hist.num_bins", 7, ("stats.prob_hist.num_bins",), 7),
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
    "common.eval_stage_name": "evaluation",
    "common.inference_modality": "image",
    "common.debug_mode": False,
    "common.enable_coreml_compatible_module": True,
    "ddp.device_id": 0,
    "ddp.find_unused_params": True,
    "ddp.use_deprecated_data_parallel": False,
    "image_augmentation.to_tensor.dtype": "float",
    "loss.neural_augmentation.*": {"alpha": 100.0},
    "model.learn_augmentation.*": {"mode": "basic"},
    "dataset.sample_efficient_training.*": {"sample_confidence": 0.5},
    "model.layer.group_linear_init": "xavier_uniform",
    "model.layer.group_linear_init_std_dev": 0.01,
    "optim.eps": 1e-8,
    "optim.bypass_parameters_check": True,
    "scheduler.lr": 0.1,
    "conversion.*": {"coreml_extn": "mlmodel"},
    "benchmark.*": {"n_iter": 100},
    "sampler.msc.scale_inc_factor": 0.25,
}
VALUES = {
    ("dataset.name", "imagenet_opencv"): "imagenet",
    ("loss.distillation.name", "cls_kl_div_loss"): "soft_kl_loss",
    ("loss.classification.name", "label_smoothing"): "cross_entropy",
    ("model.normalization.name", "sbn"): "sync_batch_norm",
    ("stats.checkpoint_metric", "coco_map"): "coco_map.bbox",
}


def value_of(recipe, dotted):
    for part in dotted.split("."):
        recipe = getattr(recipe, part)
    return recipe


def translations(recipe):
    """What was said of old spellings; the line about the release is not among them."""
    return tuple(note for note in recipe.notes if "common.release: " not in note)


def options_of(recipe):
    """All options but the release, which an old spelling may tell."""
    return {key: value for key, value in flat(recipe).items() if key != "common.release"}


def write(tmp_path, mapping):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(mapping))
    return path


def test_the_table_is_covered_and_holds_no_key_of_today():
    assert {row[0] for row in ROWS} | set(WITHOUT_EFFECT) == set(OLD_KEYS)
    assert set(VALUES) == set(OLD_VALUES)
    for old in OLD_KEYS:
        kind = recipe_type()
        for part in old.split("."):
            kind = getattr(kind.fields().get(part), "annotation", None)
            if kind is None:
                break
        assert kind is None, old


@pytest.mark.parametrize(("old", "given", "new", "value"), ROWS)
def test_an_old_key_is_read_as_the_new_one(old, given, new, value, tmp_path):
    path = write(tmp_path, {old: given})
    recipe = load_recipe(path)
    for key in new:
        assert value_of(recipe, key) == value
        assert recipe.origins[key] == f"{path}:1"
    read_as = " and ".join(f"read as {key}" for key in new)
    assert translations(recipe) == (f"{path}:1: old key {old}: {read_as}",)
    default = flat(load_recipe({}))
    shown = options_of(recipe)
    changed = {key for key, v in shown.items() if key in default and v != default[key]}
    assert changed | (set(new) - set(default)) == set(new)


@pytest.mark.parametrize(("old", "given", "new", "value"), ROWS)
def test_the_key_of_today_wins(old, given, new, value, tmp_path):
    mine = {"stats.train": ["top1"], "stats.val": ["top1"], "common.finetune": "mine.pt"}
    mine |= {"anchor_generator.ssd.aspect_ratios": [[3], [3], [3], [3], [3], [3]]}
    mine |= {"anchor_generator.ssd.output_strides": [16, 32, 64, 128, 256, 512]}
    mine |= {"common.save_all_checkpoints": False}
    todays = {key: mine.get(key, 0 if "smoothing" in key else 1) for key in new}
    todays |= {"common.release": "main"}  # some of these no release knows side by side
    for order in ({old: given} | todays, todays | {old: given}):
        recipe = load_recipe(order)
        for key in todays:
            assert value_of(recipe, key) == value_of(load_recipe(todays), key)
        ignored = " and ".join(f"ignored, {key} is given" for key in new)
        assert translations(recipe) == (f"python: old key {old}: {ignored}",)


@pytest.mark.parametrize(("old", "given"), WITHOUT_EFFECT.items())
def test_a_key_without_effect_is_named_and_ignored(old, given):
    if isinstance(given, dict):  # one of a section in which all keys are ignored
        ((name, given),) = given.items()
        old = old.replace("*", name)
    recipe = load_recipe({old: given})
    assert options_of(recipe) == options_of(load_recipe({}))
    (note,) = translations(recipe)
    assert note.startswith(f"python: old key {old}: ignored, ")


@pytest.mark.parametrize(("old", "new"), VALUES.items())
def test_an_old_value_is_read_as_the_new_one(old, new):
    key, given = old
    measured = ["dataset.category=detection", "stats.val=coco_map,loss"]
    measured += ["stats.checkpoint_metric_max=true"]
    recipe = load_recipe(None, [f"{key}={given}", *(measured if key.startswith("stats.") else ())])
    assert value_of(recipe, key) == new
    assert translations(recipe) == (f"command line: old value {key}={given} read as {new}",)


@pytest.mark.parametrize(
    ("old", "given", "new", "read", "words"),
    [
        ("vit.learnable_pos_emb", "true", "vit.sinusoidal_pos_emb", False, "the opposite of"),
        ("vit.learnable_pos_emb", "False", "vit.sinusoidal_pos_emb", True, "the opposite of"),
        ("vit.learnable_pos_emb", "yes", "vit.sinusoidal_pos_emb", False, "the opposite of"),
        ("vit.learnable_pos_emb", True, "vit.sinusoidal_pos_emb", False, "the opposite of"),
        ("vbs.scale_inc_factor", 0.25, "vbs.max_scale_inc_factor", 1.25, "1 more in"),
        ("cls_kl_div_loss.mode", "hard", "name", "hard_distillation", "the loss of that kind in"),
        ("cls_kl_div_loss.mode", "soft", "name", "soft_kl_loss", "the loss of that kind in"),
    ],
)
def test_an_old_value_is_converted(old, given, new, read, words):
    home = {"vit": "model.classification.", "vbs": "sampler."}
    prefix = home.get(old.partition(".")[0], "loss.distillation.")
    old, new = prefix + old, prefix + new
    assert old in CONVERTED
    recipe = load_recipe({old: given})
    assert value_of(recipe, new) == read
    assert translations(recipe) == (f"python: old key {old}: read as {words} {new}",)
    mine = {bool: not read, float: 3.0, str: "soft_kl_loss"}[type(read)]
    for order in ({old: given, new: mine}, {new: mine, old: given}):
        assert value_of(load_recipe(order), new) == mine


@pytest.mark.parametrize(
    ("mode", "name"), [("soft", "soft_kl_loss"), ("hard", "hard_distillation")]
)
def test_the_loss_of_release_03_is_one_of_two_of_today(mode, name):
    keys = {
        "loss.distillation.name": "cls_kl_div_loss",
        "loss.distillation.cls_kl_div_loss.mode": mode,
    }
    for order in (keys, dict(reversed(keys.items()))):
        assert load_recipe(order).loss.distillation.name == name


def test_what_cannot_be_converted_is_no_key():
    with pytest.raises(RecipeError, match=r"cls_kl_div_loss: unknown key"):
        load_recipe({"loss.distillation.cls_kl_div_loss.mode": "medium"})


def test_a_teacher_has_the_same_old_keys():
    recipe = load_recipe(
        {
            "teacher.model.layer.conv_weight_std": False,
            "teacher.model.normalization.name": "sbn",
            "teacher.model.classification.vit.learnable_pos_emb": True,
        }
    )
    assert recipe.teacher.model.normalization.name == "sync_batch_norm"
    assert recipe.teacher.model.classification.vit.sinusoidal_pos_emb is False
    assert "teacher.model.layer.conv_weight_std: ignored" in translations(recipe)[1]


def test_two_old_keys_for_one_new_the_first_wins():
    recipe = load_recipe(
        {
            "loss.classification.label_smoothing": 0.3,
            "loss.classification.label_smoothing_factor": 0.1,
            "common.release": "main",
        }
    )
    assert recipe.loss.classification.cross_entropy.label_smoothing == 0.3
    assert translations(recipe)[1].endswith("ignored, loss.classification.label_smoothing is given")


@pytest.mark.parametrize(
    ("name", "repeats"), [("batch_sampler", 1), ("variable_batch_sampler", 4), (None, 1)]
)
def test_the_repeats_of_the_sampler_that_is_used_count(name, repeats):
    keys = {"sampler.vbs.num_repeats": 4, "sampler.bs.num_repeats": 1}
    given = {"sampler.name": name} if name else {}
    for order in (keys, dict(reversed(keys.items()))):
        assert load_recipe(given | order).sampler.num_repeats == repeats


def test_a_wrong_value_is_reported_at_the_old_place_under_the_new_key(tmp_path):
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
