"""Each of the 97 official recipes, as it is but for paths and sizes: read, built, and run."""

import json
from pathlib import Path

import pytest
import torch

from config.errors import RecipeError
from data.datasets.shapes import generate
from data.sampler.plan import RunPlan
from engine import evaluate, load_recipe, train
from engine.effects import without_effect
from engine.losses import build_loss
from engine.parts import build_sampler, build_task
from optim import OPTIMIZERS, SCHEDULES, parameter_groups

RECIPES = json.loads((Path(__file__).parent / "reference" / "recipe_keys.json").read_text())[
    "recipes"
]
# what a recipe says of its machine and its data, and what training on a handful of images takes
OURS = {
    "common.device": "cpu",
    "common.mixed_precision": False,
    "common.tensorboard_logging": False,
    "dataset.workers": 0,
    "dataset.train_batch_size0": 8,
    "dataset.val_batch_size0": 8,
}
SMALL = {
    "sampler.bs.crop_size_width": 64,
    "sampler.bs.crop_size_height": 64,
    "sampler.vbs.crop_size_width": 64,
    "sampler.vbs.crop_size_height": 64,
    "sampler.vbs.min_crop_size_width": 32,
    "sampler.vbs.min_crop_size_height": 32,
    "sampler.vbs.max_crop_size_width": 64,
    "sampler.vbs.max_crop_size_height": 64,
    "scheduler.max_epochs": 1,
    "scheduler.warmup_iterations": 1,
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory, image_folder, coco_folder, voc_folder):
    """Roots of training and validation per data set."""
    ade = tmp_path_factory.mktemp("ade") / "shapes"
    generate("ade20k", ade, train=16, val=5, size=96)
    classes = (image_folder / "train", image_folder / "val")
    return {
        "coco_ssd": (coco_folder, coco_folder),
        "pascal": (voc_folder, voc_folder),
        "ade20k": (ade, ade),
        "imagenet": classes,
        "imagenet_opencv": classes,
        **{f"imagenet_{name}": (variants(tmp_path_factory, image_folder),) * 2 for name in "ar"},
        "imagenet_sketch": (variants(tmp_path_factory, image_folder),) * 2,
    }


def variants(tmp_path_factory, image_folder):
    """Three class folders that are called like classes of ImageNet."""
    root = tmp_path_factory.mktemp("variant")
    names = ("n01498041", "n01531178", "n02129165")  # in ImageNet-A, -R or -Sketch
    for folder, synset in zip(sorted((image_folder / "val").iterdir()), names, strict=True):
        (root / synset).symlink_to(folder)
    return root


def on_our_data(name, folders, **changes):
    """The official recipe with our paths; pretrained weights, which are elsewhere, are left out."""
    given = dict(RECIPES[name])
    train_root, val_root = folders[given["dataset.name"]]
    paths = {"dataset.root_train": str(train_root), "dataset.root_val": str(val_root)}
    for key, value in given.items():
        if isinstance(value, str) and value.startswith("<") and key not in paths:
            paths[key] = None
    if "teacher.model.classification.pretrained" in given:
        paths["teacher.model.classification.pretrained"] = changes.pop("teacher", "teacher.pt")
    if given.get("dataset.pascal.use_coco_data"):
        paths["dataset.pascal.use_coco_data"] = False
    if given["dataset.name"] in ("imagenet", "imagenet_opencv"):
        paths["model.classification.n_classes"] = None  # officially counted, as here
    paths |= {"model.classification.n_pretrained_classes": None}
    return given | paths | OURS | changes


@pytest.mark.parametrize("name", RECIPES)
def test_every_official_recipe_is_read_as_it_is(name):
    """Nothing is refused, and every key that is not read is named in a line."""
    given = RECIPES[name]
    if "teacher.model.classification.pretrained" in given:
        assert given["teacher.model.classification.pretrained"]
    recipe = load_recipe(given)
    said = "\n".join((*recipe.notes, *without_effect(recipe)))
    for key in given:
        assert key in recipe.origins or f" {key}" in said, key


@pytest.mark.parametrize("name", RECIPES)
def test_every_official_recipe_is_built(name, folders, monkeypatch):
    """Data, sampler, network, loss, optimizer and schedule, with the official sizes of all of them."""
    monkeypatch.setattr("engine.losses.build_teacher", lambda task: torch.nn.Identity())
    recipe = load_recipe(on_our_data(name, folders))
    task = build_task(recipe)
    sampler = build_sampler(recipe, recipe.dataset.train_batch_size0)
    evaluation_only = "scheduler.name" not in RECIPES[name]
    source = task.build_source("val" if evaluation_only else "train")
    sample = source.transform(*source.dataset.load(0), sampler_key(sampler))
    assert sample.image.dtype == torch.uint8 and sample.image.shape[0] == 3
    with torch.device("meta"):  # a network of official size, without its memory
        model = task.build_model()
    loss = build_loss(task)
    assert callable(loss)
    groups = parameter_groups(
        model,
        weight_decay=recipe.optim.weight_decay,
        no_decay_bn_filter_bias=recipe.optim.no_decay_bn_filter_bias,
        lr_multipliers=task.lr_multipliers(model),
    )
    optimizer = OPTIMIZERS.build(recipe.optim, groups=groups)
    held = sum(len(group["params"]) for group in optimizer.param_groups)
    assert held == len(list(model.parameters()))
    schedule = SCHEDULES.build(recipe.scheduler, plan=recipe.scheduler.plan())
    given = RECIPES[name]
    if peak := given.get("scheduler.cosine.max_lr"):
        warmup = given.get("scheduler.warmup_iterations", 0)
        assert schedule(0, warmup) == pytest.approx(peak, rel=1e-6)
        assert schedule.plan.max_epochs == given["scheduler.max_epochs"]
    RunPlan(seed=0, dataset_size=64, sampler=sampler).epoch(0)


def sampler_key(sampler):
    from data.sample import SampleKey

    base = sampler.base
    return SampleKey(0, base.height, base.width, 1)


# one of each kind: task, network, data set, sampler, loss and augmentation that training can meet
KINDS = {
    "v0.1/classification/mobilevit_xx_small.yaml": {},
    "main/classification/imagenet/mobilevit_v2.yaml": {  # RandAugment, erasing, mixup and cutmix
        "model.classification.mitv2.width_multiplier": 0.5
    },
    "main/classification/imagenet/resnet_adv.yaml": {"model.classification.resnet.depth": 18},
    "main/classification/imagenet/vit.yaml": {"model.classification.vit.mode": "tiny"},
    "v0.2/classification/finetune_higher_res_in1k/mobilevit_v2.yaml": {
        "model.classification.mitv2.width_multiplier": 0.5,
    },
    "mobilevitv3-v1/classification/mobilevitv3_xx_small_oneserver.yaml": {},
    "v0.2/classification/imagenet/mobilevit.yaml": {"model.classification.mit.mode": "xx_small"},
    "main/detection/ssd_coco/mobilevit.yaml": {"model.classification.mit.mode": "xx_small"},
    "v0.1/detection/ssd_mobilevit_xx_small_320.yaml": {},
    "mobilevitv3-v2/segmentation/ade20k/pspnet_mobilevitv3.yaml": {
        "model.classification.mitv3.width_multiplier": 0.5
    },
    "main/segmentation/pascal_voc/deeplabv3_mobilevitv2.yaml": {
        "model.classification.mitv2.width_multiplier": 0.5
    },
    "v0.1/segmentation/deeplabv3_mobilevit_xx_small.yaml": {},
}
SEGMENTED = {
    "image_augmentation.random_short_size_resize.short_side_min": 64,
    "image_augmentation.random_short_size_resize.short_side_max": 96,
    "image_augmentation.random_short_size_resize.max_img_dim": 128,
    "image_augmentation.resize.size": [64, 64],
}
OLD_SEGMENTED = {
    "image_augmentation.random_resize.min_size": 64,
    "image_augmentation.random_resize.max_size": 96,
}


def run_small(name, folders, tmp_path, **changes):
    """Train an epoch of a few steps, as small as the recipe can be made by sizes alone."""
    given = RECIPES[name]
    sizes = {key: value for key, value in SMALL.items() if key in given}
    if "detection" in name:  # the extra levels of SSD need something to look at
        sizes = {key: 128 if "crop_size" in key else value for key, value in sizes.items()}
        sizes |= {"image_augmentation.resize.size": [128, 128]}
    elif "segmentation" in name:
        sizes |= OLD_SEGMENTED if name.startswith("v0.1") else SEGMENTED
    else:
        whole = {"image_augmentation.resize.size": 72, "image_augmentation.center_crop.size": 64}
        sizes |= {key: value for key, value in whole.items() if key in given}
    changes |= {"common.results_loc": str(tmp_path), "stats.checkpoint_metric": "loss"}
    changes |= {"stats.checkpoint_metric_max": False}
    return train(load_recipe(on_our_data(name, folders, **sizes, **changes)))


@pytest.mark.parametrize("name", KINDS)
def test_one_recipe_of_each_kind_trains_and_evaluates(name, folders, tmp_path):
    summary = run_small(name, folders, tmp_path, **KINDS[name])
    assert summary["steps"] >= 2 and summary["epochs"] == 1
    assert summary["last"]["val.loss"] > 0
    if RECIPES[name].get("ema.enable"):
        assert summary["last"]["val_ema.loss"] > 0


@pytest.mark.parametrize("release", ["v0.3", "main"])
def test_distillation_trains_and_evaluates(release, folders, tmp_path):
    student = {"model.classification.mobilenetv1.width_multiplier": 0.25}
    own = {f"teacher.{key}": value for key, value in student.items()}
    own |= {"teacher.model.classification.name": "mobilenetv1"}
    base = "main/classification/imagenet/mobilenet_v1.yaml"
    teacher = run_small(base, folders, tmp_path, **student, **{"common.run_label": "teacher"})
    name = f"{release}/distillation/teacher_resnet101_student_mobilenet_v1.yaml"
    weights = {"teacher": f"{teacher['run']}/checkpoint_last.pt"}
    summary = run_small(name, folders, tmp_path, **student, **own, **weights)
    assert summary["steps"] >= 2 and summary["last"]["val.loss"] > 0


@pytest.mark.parametrize("variant", ["a", "r", "sketch"])
def test_evaluation_on_a_variant_of_imagenet(variant, folders, tmp_path):
    """The network keeps its 1000 classes; the data have some of them."""
    from engine import build_model
    from engine.checkpoint import save_weights

    name = f"main/classification/imagenet/resnet_eval/imagenet_{variant}.yaml"
    small = {"model.classification.resnet.depth": 18, "common.results_loc": str(tmp_path)}
    small |= {"model.weights_source": "cvnets-main"}
    recipe = on_our_data(name, folders, **small)
    weights = tmp_path / "weights.pt"
    save_weights(weights, build_model(load_recipe(recipe)), {})
    report = evaluate(load_recipe(recipe | {"model.classification.pretrained": str(weights)}))
    assert report["images"] == 33 and 0 <= report["metrics"]["top1"] <= 100


def test_an_unknown_key_in_an_official_recipe_is_one_line():
    given = dict(RECIPES["main/classification/imagenet/mobilevit.yaml"]) | {"ema.momentun": 0.1}
    with pytest.raises(RecipeError) as error:
        load_recipe(given)
    assert error.value.lines() == ["python: ema.momentun: unknown key - did you mean momentum?"]


def test_there_are_97():
    assert len(RECIPES) == 97
