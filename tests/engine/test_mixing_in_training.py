"""Mixup and cutmix as a run uses them, and what is said of options that they have no use for."""

import re
from pathlib import Path

import pytest
import torch

from data.sample import Batch
from data.transforms.classification import ORDER, TrainingTransform
from engine import load_recipe, train
from engine.effects import without_effect
from engine.metrics.metric import Observation, build_metrics
from engine.tasks.classification import Classification
from loss_fn.output import LossOutput

MIXING = {"image_augmentation.mixup.enable": True, "image_augmentation.cutmix.enable": True}


def task(**values) -> Classification:
    recipe = load_recipe({"model.classification.n_classes": 3, **values})
    return Classification(None, recipe=recipe)


def batch() -> Batch:
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 8, 8) * 80
    return Batch(images, torch.tensor([2, 0, 1, 0]), (0, 1, 2, 3), ((8, 8),) * 4)


def test_training_is_mixed_and_evaluation_is_not():
    torch.manual_seed(0)
    plain, labels = task(**MIXING).prepare(batch(), training=False)
    assert torch.equal(plain, batch().images / 255)
    assert torch.equal(labels, batch().targets)
    mixed, targets = task(**MIXING).prepare(batch(), training=True)
    assert not torch.equal(mixed, plain)
    assert targets.shape == (4, 3)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    # the same share of pictures as of labels: image 2 (160) and the one before it (80)
    share = float((mixed[2].mean() * 255 - 80) / 80)
    assert float(targets[2, 1]) == pytest.approx(share, abs=1e-5)


def test_without_either_nothing_changes():
    images, labels = task().prepare(batch(), training=True)
    assert torch.equal(images, batch().images / 255)
    assert torch.equal(labels, batch().targets)


def test_the_chance_of_a_micro_batch_decides_alone():
    outs = []
    for seed in (3, 4, 3):
        torch.manual_seed(seed)
        outs.append(task(**MIXING).prepare(batch(), training=True))
    assert torch.equal(outs[0][0], outs[2][0])
    assert torch.equal(outs[0][1], outs[2][1])
    assert not torch.equal(outs[0][1], outs[1][1])


def test_a_run_learns_from_mixed_images(tiny_recipe):
    summary = train(load_recipe({**tiny_recipe, **MIXING, "stats.train": ["loss", "top1"]}))
    assert 0 <= summary["top1"] <= 100


def test_an_image_of_no_class_is_left_out_of_the_accuracy():
    outputs = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    soft = torch.tensor([[0.3, 0.0], [0.0, 0.0], [1.0, 0.0]])
    metric = build_metrics(["top1"])["top1"]
    metric.update(Observation(outputs, soft, LossOutput(torch.tensor(0.0)), 3))
    assert metric.result([metric.state()]) == 50.0


@pytest.mark.parametrize(
    ("values", "key", "reason"),
    [
        ({}, "mixup.inplace", "the mixed images are new ones"),
        ({}, "cutmix.sample_key", "a batch has one tensor of images, one of labels"),
        ({}, "mixup.target_key", "a batch has one tensor of images, one of labels"),
        ({"dataset.category": "detection"}, "mixup.alpha", "the task is detection"),
        ({"dataset.category": "segmentation"}, "cutmix.inplace", "the task is segmentation"),
        ({}, "rand_augment.timm_config_str", "use_timm_library is false"),
        (
            {"image_augmentation.rand_augment.use_timm_library": True},
            "rand_augment.num_ops",
            "timm_config_str says it (use_timm_library is true)",
        ),
        ({}, "random_rotate.mask_fill", "only segmentation has masks"),
    ],
)
def test_options_without_use_are_named(values, key, reason):
    examples = {"inplace": True, "alpha": 0.5, "num_ops": 3, "mask_fill": 0}
    key = f"image_augmentation.{key}"
    given = examples.get(key.rpartition(".")[2], "rand-m9")
    said = without_effect(load_recipe({**values, key: given}))
    assert said == [f"python: {key} has no effect: {reason}"]


def test_options_of_use_are_not_named():
    used = {"mixup.p": 0.5, "cutmix.alpha": 0.5, "rand_augment.num_ops": 3}
    values = {f"image_augmentation.{key}": value for key, value in used.items()}
    assert without_effect(load_recipe(values | MIXING)) == []


PAGE = Path(__file__).parents[2] / "docs/transforms.md"


def test_the_recipe_of_the_page_on_transforms(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.S)
    (tmp_path / "recipe.yaml").write_text(block)
    augment = load_recipe(tmp_path / "recipe.yaml").image_augmentation
    on = {"random_resized_crop", "random_horizontal_flip", "rand_augment", "random_erase"}
    assert set(augment.enabled) == on
    assert augment.mixup.enable
    assert augment.cutmix.enable
    TrainingTransform(augment)


def test_the_table_of_the_page_is_the_order_of_training():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), flags=re.M)
    assert tuple(rows) == ORDER
