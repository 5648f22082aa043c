"""Shipped recipes: resolved text, parameters, and equality with the official files."""

import json
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from config.legacy import OLD_KEYS
from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification import VARIANT_NAMES
from cvnets.profile import on_meta
from cvnets.weights.zoo import named_weights
from engine import build_model, load_recipe
from engine.effects import without_effect
from engine.parts import build_task
from engine.pretrained import pretrained_key
from engine.reading import shipped_recipes, task_name
from engine.recipe import RECIPES, recipe_type
from engine.resolved import flat, operational_keys

HERE = Path(__file__).parent
NAMES = [str(path.relative_to(RECIPES)) for path in shipped_recipes()]


def test_there_are_recipes():
    assert "demo/classification.yaml" in NAMES
    for start, count in (
        ("classification/imagenet/mobilevit", 8),
        ("classification/imagenet/", 19),
        ("classification/imagenet/resnet_eval/", 4),
        ("classification/finetune_", 3),
        ("distillation/", 1),
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
    task = build_task(load_recipe(RECIPES / name, bare))
    with on_meta():
        model = task.build_model()
    lines = [f"{key}: {json.dumps(value)}" for key, value in flat(recipe).items()]
    lines.append(
        f"# parameters with {classes} classes: {sum(p.numel() for p in model.parameters())}"
    )
    text = "\n".join(lines) + "\n"
    golden = HERE / "golden" / (name.removesuffix(".yaml").replace("/", "_") + ".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


# --- the official recipes ------------------------------------------------------------------------

OFFICIAL = json.loads((HERE / "reference" / "recipe_keys.json").read_text())["recipes"]
V1, V2 = "mobilevitv3-v1", "mobilevitv3-v2"
# our recipe -> the official one that it has the hyper-parameters of
SAME = {
    **{
        f"classification/imagenet/{ours}": f"main/classification/imagenet/{official}"
        for ours, official in (
            *(("mobilevit", "mobilevit"), ("mobilevit_x_small", "mobilevit")),
            *(("mobilevit_xx_small", "mobilevit"), ("mobilevit_v2", "mobilevit_v2")),
            *((name, name) for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3")),
            *((name, name) for name in ("resnet", "resnet_adv", "vit")),
            *((f"resnet_eval/{n}",) * 2 for n in ("imagenet_a", "imagenet_r", "imagenet_sketch")),
            ("resnet_eval/imagenet_v2", "resnet_eval/imagenet_a"),
        )
    },
    **{
        f"classification/{folder}/mobilevit_v2": f"main/classification/{folder}/mobilevit_v2"
        for folder in ("finetune_higher_res_in1k", "finetune_in21k_to_1k", "imagenet_21k")
    },
    **{
        f"{folder}_{size}": f"{release}/{official.format(size)}"
        for folder, release, official in (
            ("classification/imagenet/mobilevit_v3", V1, "classification/mobilevitv3_{}_oneserver"),
            ("detection/ssd_coco/mobilevit_v3", V1, "detection/ssd_mobilevitv3_{}_320"),
            ("detection/ssd_coco/mobilevit", "v0.1", "detection/ssd_mobilevit_{}_320"),
            (
                *("segmentation/pascal_voc/deeplabv3_mobilevit_v3", V1),
                "segmentation/deeplabv3_mobilevitv3_{}",
            ),
        )
        for size in ("small", "x_small", "xx_small")
        if not folder.endswith("ssd_coco/mobilevit") or size != "small"
    },
    **{
        f"segmentation/pascal_voc/deeplabv3_mobilevit_{size}": (
            f"v0.1/segmentation/deeplabv3_mobilevit_{size}"
        )
        for size in ("x_small", "xx_small")
    },
    **{
        f"segmentation/{data}/{head}_mobilevit_{version}": (
            f"{release}/segmentation/{data}/{head}_mobilevit{version}"
        )
        for data in ("pascal_voc", "ade20k")
        for head in ("deeplabv3", "pspnet")
        for version, release in (("v2", "main"), ("v3", V2))
    },
    "classification/imagenet/mobilevit_v3": (
        "mobilevitv3-v2/classification/imagenet/mobilevit_v3_multiserver.py"
    ),
    "classification/finetune_higher_res_in1k/mobilevit_v3": (
        "mobilevitv3-v2/classification/finetune_higher_res_in1k/mobilevit_v3"
    ),
    "detection/ssd_coco/mobilevit": "v0.1/detection/ssd_mobilevit_small_320",
    "detection/ssd_coco/mobilevit_v2": "main/detection/ssd_coco/mobilevit_v2",
    "detection/ssd_coco/mobilevit_v3": "mobilevitv3-v2/detection/ssd_coco/mobilevit_v3",
    "detection/ssd_coco/resnet": "main/detection/ssd_coco/resnet",
    "segmentation/pascal_voc/deeplabv3_mobilevit": (
        "main/segmentation/pascal_voc/deeplabv3_mobilevit"
    ),
    "segmentation/ade20k/deeplabv3_mobilenet_v2": (
        "main/segmentation/ade20k/deeplabv3_mobilenetv2"
    ),
    "segmentation/ade20k/deeplabv3_resnet": "main/segmentation/ade20k/deeplabv3_resnet50",
    "distillation/teacher_resnet101_student_mobilenet_v1": (
        "main/distillation/teacher_resnet101_student_mobilenet_v1"
    ),
}
# what has no official recipe: combinations of ours, which their heads say
OURS = {
    "classification/imagenet/efficientnet",
    "classification/places365/mobilevit_v2",
    *(f"detection/ssd_coco/mobilenet_v{version}" for version in (1, 2, 3)),
}
FIRST = "*_mobilevit_x*_small", "*_mobilevit_v3_*small"  # of segmentation, on release 0.1
SSD_FIRST = "detection/*/mobilevit", "detection/*/mobilevit_x*", "detection/*/mobilevit_v3_*"
V3_FIRST = "classification/imagenet/mobilevit_v3_*"
# our recipes, keys that differ from the official recipe, why
DIFFERENCES = (
    (("*",), ("taskname",), "a label"),
    (
        ("detection/*", "segmentation/*"),
        ("common.accum_after_epoch",),
        "both accumulate from the first epoch",
    ),
    (
        *(("*",), ("model.classification.pretrained", "teacher.model.classification.pretrained")),
        "officially a path, an address, or given on the command line",
    ),
    (
        ("*imagenet/mobilevit_v2", "*imagenet/mobilevit_v3", "*imagenet_21k/*"),
        *(("model.layer.conv_init_std_dev",), "kaiming_normal reads none"),
    ),
    (
        *(("*/vit",), ("image_augmentation.random_erase.enable",)),
        "switched off, as it is without the section",
    ),
    (("*/vit",), ("image_augmentation.random_erase.p",), "of what is switched off"),
    (
        ("*imagenet/mobilevit_x*_small",),
        ("model.classification.mit.mode", "model.classification.mit.dropout"),
        "the sizes of release 0.1, whose files differ in nothing else",
    ),
    (("*imagenet_v2",), ("dataset.name",), "the release has no recipe of this variant"),
    (("*imagenet_v2",), ("dataset.imagenet_a.only_its_classes",), "V2 has all classes"),
    (("*imagenet_v2",), ("dataset.imagenet_v2.split",), "the first of three test sets"),
    (
        *(("classification/imagenet/mobilevit_v3*",), ("dataset.val_batch_size0",)),
        "no figure depends on it",
    ),
    (
        (V3_FIRST,),
        tuple(
            f"image_augmentation.{key}"
            for key in ("resize.enable", "resize.size", "center_crop.enable", "center_crop.size")
        ),
        "release 0.1 resizes to the crop + 32 and crops without being told to",
    ),
    (
        *((V3_FIRST, "*pascal_voc" + FIRST[0], "*pascal_voc/deeplabv3" + FIRST[1]),),
        *(("stats.train",), "the one list of release 0.1 counts for training, too"),
    ),
    ((V3_FIRST,), ("model.normalization.name",), "batch_norm_2d is called batch_norm now"),
    (
        SSD_FIRST,
        ("image_augmentation.resize.enable", "image_augmentation.resize.size"),
        "release 0.1 resizes to the sampler's size without being told to",
    ),
    (
        SSD_FIRST,
        (
            *("stats.val", "stats.checkpoint_metric", "stats.checkpoint_metric_max"),
            "stats.coco_map.iou_types",
        ),
        "release 0.1 had the loss only to choose the best by",
    ),
    (
        *(("detection/ssd_coco/mobilevit_v3",), ("model.classification.mitv3.width_multiplier",)),
        "1.0 is the widest with published weights",
    ),
    (
        ("detection/*", "segmentation/*"),
        ("model.detection.n_classes", "model.segmentation.n_classes"),
        "officially those of the data set, as here",
    ),
    (
        ("segmentation/*",),
        (
            *("model.classification.n_classes", "model.classification.classifier_dropout"),
            "loss.classification.cross_entropy.ignore_index",
        ),
        "nothing reads it in segmentation",
    ),
)


def official(ours):
    """The official key-value map that one of our recipes has the hyper-parameters of."""
    name = SAME[ours]
    return OFFICIAL[name if name.endswith(".py") else f"{name}.yaml"]


def differing(ours):
    """Keys whose resolved values are not the official ones, those that are not given included."""
    values, theirs = flat(load_recipe(RECIPES / f"{ours}.yaml")), flat(load_recipe(official(ours)))
    nothing = object()
    free = operational_keys(recipe_type())  # where and how fast
    return {
        key
        for key in values.keys() | theirs.keys()
        if values.get(key, nothing) != theirs.get(key, nothing)
        and key not in free
        and not key.startswith("expected.")
    }


@pytest.mark.parametrize("ours", SAME)
def test_recipe_is_the_official_one_but_for_the_listed_differences(ours):
    allowed = {
        key
        for patterns, keys, _ in DIFFERENCES
        if any(fnmatchcase(ours, pattern) for pattern in patterns)
        for key in keys
    }
    assert differing(ours) <= allowed


def test_every_recipe_has_an_official_one_or_is_said_to_be_ours():
    names = {name.removesuffix(".yaml") for name in NAMES if not name.startswith("demo/")}
    assert names == SAME.keys() | OURS


def test_every_listed_difference_is_one():
    found = {ours: differing(ours) for ours in SAME}
    for patterns, keys, why in DIFFERENCES:
        for pattern in patterns:
            hit = [ours for ours in SAME if fnmatchcase(ours, pattern)]
            assert any(found[ours] & set(keys) for ours in hit), (pattern, why)
        for key in keys:
            hit = [o for o in SAME if any(fnmatchcase(o, pattern) for pattern in patterns)]
            assert any(key in found[ours] for ours in hit), (key, why)


def test_official_file_is_read_as_it_is():
    """The official recipe as a mapping, with nothing but the class count given."""
    recipe = load_recipe(OFFICIAL["main/classification/imagenet/mobilevit.yaml"])
    assert recipe.model.classification.mit.number_heads == 4
    assert recipe.notes == ()


# --- what they expect ----------------------------------------------------------------------------

# published, else the spread that two trainings of one recipe have
TOLERANCES = {"top1": 0.3, "coco_map.bbox": 0.5, "iou": 0.6}
IMAGES = {  # of the set that is evaluated
    **{"imagenet": 50000, "imagenet_a": 7500, "imagenet_r": 30000, "imagenet_sketch": 50889},
    **{"imagenet_v2": 10000, "places365": 36500, "coco_ssd": 5000, "pascal": 1449, "ade20k": 2000},
}
SOURCES = {
    "cvnets-v0.1": "the table of ml-cvnets v0.1",
    "cvnets-main": "the tables of ml-cvnets (v0.2 and later)",
    "mobilevitv3": "the table of MobileViTv3 v1.0.0",
}
OF_OTHERS = [name for name in NAMES if not name.startswith("demo/")]


def head(name):
    """The comment that a recipe begins with, in one line."""
    lines = re.match(r"(#.*\n)+", (RECIPES / name).read_text())[0].splitlines()
    return re.sub(r"\s+", " ", " ".join(line.removeprefix("#") for line in lines))


@pytest.mark.parametrize("name", OF_OTHERS)
def test_what_a_recipe_expects_of_its_run(name):
    """Batch, epochs, images and their size are those of the recipe itself and of its head."""
    recipe, text = load_recipe(RECIPES / name), head(name)
    expected, data = recipe.expected, recipe.dataset
    assert expected.metric == recipe.stats.checkpoint_metric
    assert expected.epochs == recipe.scheduler.max_epochs
    images = None if "imagenet_21k" in name else IMAGES[data.name]
    assert expected.images == images
    batch = re.search(r"are an effective batch of (\d+)", text)
    assert expected.effective_batch == (int(batch[1]) if batch else None)
    processes = re.findall(r"--n(?:nodes|proc-per-node) (\d+)", text)
    images = data.train_batch_size0 * recipe.common.accum_freq
    for count in processes:
        images *= int(count)
    unpublished = f"expected.effective_batch={images} keeps" in text
    assert expected.effective_batch == images or unpublished or "evaluation only" in text
    fed = build_task(recipe).preprocessing()
    own_size = task_name(recipe) == "segmentation"
    side = None if own_size else fed.crop or fed.resize
    size = expected.input_size
    assert side == ((size, size) if isinstance(size, int) else size)
    assert f"config/{name}" in text or f"cvnets eval {name.removesuffix('.yaml')}" in text


@pytest.mark.parametrize("name", OF_OTHERS)
def test_the_figure_that_a_recipe_expects_is_the_published_one(name):
    """Of the weights that it names, which are of its network and see the images that it feeds."""
    recipe = load_recipe(RECIPES / name)
    expected = recipe.expected
    if expected.value is None:
        assert (expected.weights, expected.source) == (None, "")
        return
    weights = named_weights()[expected.weights]
    figures = {figure.source: figure for figure in weights.expected}
    figure = figures["the tables of the release"]
    assert (expected.metric, expected.value) == (figure.metric, figure.value)
    assert expected.source.startswith(SOURCES[weights.release])
    paper = figures.get("MobileViT, ICLR 2022", figure).value
    assert (f"({paper:g} in MobileViT, ICLR 2022)" in expected.source) == (paper != figure.value)
    assert expected.tolerance == TOLERANCES[expected.metric]
    assert expected.value in map(float, re.findall(r"(\d+\.\d+)\b", head(name)))
    registered, options = VARIANT_NAMES[weights.model]
    section = recipe.model.classification
    assert section.name == registered
    own = CLASSIFIERS.options_of(section).model_dump()
    assert {key: own[key] for key in options} == options
    dense = {"detection": recipe.model.detection.name, "classification": None}
    assert weights.head == dense.get(task_name(recipe), recipe.model.segmentation.seg_head)
    fed = build_task(recipe).preprocessing()
    for what in ("resize", "crop", "interpolation"):
        assert getattr(weights.preprocessing, what) in (None, getattr(fed, what)), what


# --- detection -----------------------------------------------------------------------------------

DETECTION = {n: r for n, r in OFFICIAL.items() if r["dataset.category"] == "detection"}


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


# --- segmentation --------------------------------------------------------------------------------

SEGMENTATION = {n: r for n, r in OFFICIAL.items() if r["dataset.category"] == "segmentation"}
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
    said = [note.split(" old key ")[1] for note in recipe.notes if " old key " in note]
    assert [note.split(":")[0] for note in said] == old
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
    images = 4 * values["common.accum_freq"] * values["dataset.train_batch_size0"]
    assert values["expected.effective_batch"] == images
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


def test_the_page_lists_the_recipes_of_imagenet_as_they_are():
    page = (HERE.parent / "docs/recipes.md").read_text()
    (rows,) = re.findall(r"\| `classification/imagenet/` .*\n\|---.*\n((?:\|.*\n)+)", page)
    shown = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows.splitlines()]
    folder = "classification/imagenet/"
    names = [n for n in NAMES if n.startswith(folder) and n.count("/") == 2]
    assert [f"{folder}{row[0]}.yaml" for row in shown] == names
    for name, (_, *cells) in zip(names, shown, strict=True):
        about = load_recipe(RECIPES / name).expected
        wanted = (about.input_size, about.effective_batch, about.epochs, about.value)
        assert [None if cell == "-" else float(cell) for cell in cells] == list(wanted), name
