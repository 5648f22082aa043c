"""Shipped recipes: resolved text, parameters, and equality with the official files."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from config.legacy import OLD_KEYS
from cvnets.profile import on_meta
from cvnets.weights.zoo import named_weights
from engine import build_model, load_recipe
from engine.effects import without_effect
from engine.pretrained import pretrained_key
from engine.reading import shipped_recipes, task_name
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
        ("segmentation/pascal_voc/", 10),
        ("segmentation/ade20k/", 6),
    ):
        assert len([name for name in NAMES if name.startswith(start)]) == count


@pytest.mark.parametrize("name", NAMES)
def test_resolved_text_is_the_stored_one(name):
    """A changed default shows in review: UPDATE_GOLDEN=1 writes the files anew."""
    recipe = load_recipe(RECIPES / name)
    section = pretrained_key(recipe).rpartition(".")[0]
    usual = 21 if task_name(recipe) == "segmentation" else 1000
    classes = flat(recipe)[f"{section}.n_classes"] or usual
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


# --- segmentation --------------------------------------------------------------------------------

SEGMENTATION = json.loads((HERE / "reference" / "recipes_segmentation.json").read_text())
# file of the official releases -> parameters of the network that they build of it
COUNTS = {
    "deeplabv3_mobilevit_small": 6357941,
    "deeplabv3_mobilevit_x_small": 2944069,
    "deeplabv3_mobilevit_xx_small": 1854853,
    "deeplabv3_mobilevitv3_small": 7205621,
    "deeplabv3_mobilevitv3_x_small": 3269669,
    "deeplabv3_mobilevitv3_xx_small": 1956309,
    "pascal_voc/deeplabv3_mobilevit": 8687690,
    "pascal_voc/deeplabv3_mobilevitv2": 13763987,
    "pascal_voc/pspnet_mobilevitv2": 9827731,
    "pascal_voc/deeplabv3_mobilevitv3": 14001555,
    "pascal_voc/pspnet_mobilevitv3": 10065299,
    "ade20k/deeplabv3_mobilenetv2": 8087084,
    "ade20k/deeplabv3_mobilevitv2": 13846805,
    "ade20k/pspnet_mobilevitv2": 9910549,
    "ade20k/deeplabv3_resnet50": 57701932,
    "ade20k/deeplabv3_mobilevitv3": 14084373,
    "ade20k/pspnet_mobilevitv3": 10148117,
}


def test_all_official_segmentation_recipes_are_here():
    releases = [name.partition("/")[0] for name in SEGMENTATION]
    counts = {"v0.1": 3, "v0.2": 6, "v0.3": 7, "main": 7, "mobilevitv3-v1": 3, "mobilevitv3-v2": 4}
    assert {release: releases.count(release) for release in releases} == counts


@pytest.mark.parametrize("name", SEGMENTATION)
def test_every_official_segmentation_recipe_is_read_as_it_is(name):
    """Nothing refused, nothing changed, and each old spelling is said; the network is the one."""
    official = SEGMENTATION[name]
    recipe = load_recipe(official)
    assert task_name(recipe) == "segmentation"
    values = flat(recipe)
    for key, value in official.items():
        if key not in OLD_KEYS:
            assert values[key] == (tuple(value) if isinstance(value, list) else value), key
    old = [key for key in official if key in OLD_KEYS]
    assert [note.split(" old key ")[1].split(":")[0] for note in recipe.notes] == old
    ignored = official.get("loss.ignore_idx")
    if ignored is not None:
        assert recipe.loss.segmentation.cross_entropy.ignore_index == ignored
    classes = 150 if official["dataset.name"] == "ade20k" else 21
    assert official.get("model.segmentation.n_classes", classes) == classes
    bare = ["model.classification.pretrained=null", f"model.segmentation.n_classes={classes}"]
    with on_meta():
        network = build_model(load_recipe(official, bare))
    place = name.partition("/segmentation/")[2].removesuffix(".yaml")
    assert sum(p.numel() for p in network.parameters()) == COUNTS[place]


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        ("pascal_voc/deeplabv3_mobilevit", "main/{}/pascal_voc/deeplabv3_mobilevit"),
        ("pascal_voc/deeplabv3_mobilevit_x_small", "v0.1/{}/deeplabv3_mobilevit_x_small"),
        ("pascal_voc/deeplabv3_mobilevit_xx_small", "v0.1/{}/deeplabv3_mobilevit_xx_small"),
        ("pascal_voc/deeplabv3_mobilevit_v2", "main/{}/pascal_voc/deeplabv3_mobilevitv2"),
        ("pascal_voc/pspnet_mobilevit_v2", "main/{}/pascal_voc/pspnet_mobilevitv2"),
        ("pascal_voc/deeplabv3_mobilevit_v3", "mobilevitv3-v2/{}/pascal_voc/deeplabv3_mobilevitv3"),
        ("pascal_voc/pspnet_mobilevit_v3", "mobilevitv3-v2/{}/pascal_voc/pspnet_mobilevitv3"),
        (
            "pascal_voc/deeplabv3_mobilevit_v3_small",
            "mobilevitv3-v1/{}/deeplabv3_mobilevitv3_small",
        ),
        (
            "pascal_voc/deeplabv3_mobilevit_v3_x_small",
            "mobilevitv3-v1/{}/deeplabv3_mobilevitv3_x_small",
        ),
        (
            "pascal_voc/deeplabv3_mobilevit_v3_xx_small",
            "mobilevitv3-v1/{}/deeplabv3_mobilevitv3_xx_small",
        ),
        ("ade20k/deeplabv3_mobilenet_v2", "main/{}/ade20k/deeplabv3_mobilenetv2"),
        ("ade20k/deeplabv3_mobilevit_v2", "main/{}/ade20k/deeplabv3_mobilevitv2"),
        ("ade20k/pspnet_mobilevit_v2", "main/{}/ade20k/pspnet_mobilevitv2"),
        ("ade20k/deeplabv3_resnet", "main/{}/ade20k/deeplabv3_resnet50"),
        ("ade20k/deeplabv3_mobilevit_v3", "mobilevitv3-v2/{}/ade20k/deeplabv3_mobilevitv3"),
        ("ade20k/pspnet_mobilevit_v3", "mobilevitv3-v2/{}/ade20k/pspnet_mobilevitv3"),
    ],
)
def test_segmentation_recipe_is_the_official_one(ours, official):
    """All resolved values, those that are not given included."""
    files = SEGMENTATION[official.format("segmentation") + ".yaml"]
    values, read = (
        flat(load_recipe(RECIPES / f"segmentation/{ours}.yaml")),
        flat(load_recipe(files)),
    )
    # labels, paths, speed, a rerun into the same folder, and what does nothing in this task
    free = {*OWN, "common.auto_resume", "dataset.pascal.coco_root_dir"}
    free |= {"model.classification.n_classes", "model.classification.classifier_dropout"}
    free |= {"loss.classification.cross_entropy.ignore_index"}
    if "model.segmentation.n_classes" not in files:
        free.add("model.segmentation.n_classes")
    if "stats.name" in files:  # the one list of release 0.1 counts for training, too
        free.add("stats.train")
    assert {key for key in values if values[key] != read[key]} <= free
    assert values.keys() == read.keys()


OF_SEGMENTATION = [name for name in NAMES if name.startswith("segmentation/")]


@pytest.mark.parametrize("name", OF_SEGMENTATION)
def test_every_key_of_a_segmentation_recipe_has_an_effect(name):
    recipe = load_recipe(RECIPES / name)
    assert recipe.notes == ()
    assert without_effect(recipe) == []


def published(name, width=None):
    """The mIoU of the release's table, in percent, or None, of the network of a recipe."""
    section = load_recipe(RECIPES / name).model
    backbone, dataset = section.classification.pretrained, name.split("/")[1]
    if width is not None:
        backbone = f"{backbone.rpartition('_')[0]}_{width}"
    weights = named_weights().get(f"{section.segmentation.seg_head}_{backbone}_{dataset}")
    return weights and next(
        e.value for e in weights.expected if e.source == "the tables of the release"
    )


@pytest.mark.parametrize("name", OF_SEGMENTATION)
def test_what_a_segmentation_recipe_promises(name):
    """Its comment against the table of published weights, its own values and official counts."""
    text = "".join(re.findall(r"^# ?(.*\n)", (RECIPES / name).read_text(), flags=re.M))
    assert f"config/{name}" in text
    found = re.search(
        r"To expect: (mIoU ([\d.]+) %|No mIoU was published).*?([\d.]+) M param", text
    )
    assert (found[2] and float(found[2])) == published(name)
    assert found[3] == f"{parameters(name) / 1e6:.1f}"
    values = flat(load_recipe(RECIPES / name))
    steps = 4 * values["common.accum_freq"]
    assert f"are an effective batch of {steps * values['dataset.train_batch_size0']}. With" in text
    assert f"so that GPUs x accum_freq stays {steps}." in text
    widths = re.search(r"\(published mIoU (.*) %\s+for (.*)\)", text)
    if widths:
        for figure, width in zip(widths[1].split(", "), widths[2].split(", "), strict=True):
            assert float(figure) == published(name, width), width


def parameters(name):
    """Of the official network, see docs/model_figures.yaml."""
    figures = yaml.safe_load((HERE.parent / "docs/model_figures.yaml").read_text())
    (recipes,) = (family["recipes"] for family in figures if "recipes" in family)
    return recipes[name.removesuffix(".yaml")]["official"]


def test_the_page_on_recipes_lists_them_as_they_are():
    page = (HERE.parent / "docs/recipes.md").read_text()
    shown = {}
    for folder, rows in re.findall(r"\| `(segmentation/\w+/)` .*\n\|---.*\n((?:\|.*\n)+)", page):
        for row in rows.splitlines():
            short, *cells = [cell.strip() for cell in row.strip("|").split("|")]
            shown[f"{folder}{short.strip('`')}.yaml"] = cells
    assert set(shown) == set(OF_SEGMENTATION)
    for name, (stride, batch, epochs, count, miou) in shown.items():
        values = flat(load_recipe(RECIPES / name))
        assert int(stride) == values["model.segmentation.output_stride"], name
        images = values["dataset.train_batch_size0"] * values["common.accum_freq"]
        assert int(batch) == 4 * images, name
        assert int(epochs) == values["scheduler.max_epochs"], name
        assert count == f"{parameters(name) / 1e6:.1f} M", name
        assert (None if miou == "-" else float(miou)) == published(name), name
