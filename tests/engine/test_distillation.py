"""A run whose loss is not the task's own: teacher and student, several losses at once."""

import json
from pathlib import Path

import pytest
import torch

from config.errors import RecipeError, UserError
from cvnets.weights.preprocessing import Preprocessing
from engine import evaluate, load_recipe, train
from engine.effects import without_effect
from engine.losses import build_loss
from engine.parts import build_task
from engine.pretrained import recipe_of
from engine.teacher import Teacher

SMALL = {"model.classification.name": "mobilenetv1"}
SMALL |= {"model.classification.mobilenetv1.width_multiplier": 0.25}
TEACHER = {f"teacher.{key}": value for key, value in SMALL.items()}


@pytest.fixture
def taught(tiny_recipe, tmp_path):
    """A recipe of a distillation, with a teacher that was trained for an epoch."""
    train(
        load_recipe(
            tiny_recipe | SMALL | {"common.run_label": "teacher", "scheduler.max_epochs": 1}
        )
    )
    weights = str(tmp_path / "results" / "teacher" / "checkpoint_last.pt")
    return (
        tiny_recipe
        | TEACHER
        | {"teacher.model.classification.pretrained": weights, "loss.category": "distillation"}
    )


def test_a_student_imitates_its_teacher_which_never_changes(taught, tmp_path):
    weights = torch.load(taught["teacher.model.classification.pretrained"], weights_only=True)
    recipe = load_recipe(taught)
    task = build_task(recipe)
    task.build_source("train")
    loss = build_loss(task).train()
    teacher = loss.teacher
    assert not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    images = torch.rand(2, 3, 32, 32)
    out = teacher(images)
    assert loss(images, out, torch.zeros(2)).total.item() == pytest.approx(0.0, abs=1e-6)
    summary = train(recipe)
    assert summary["last"]["val.loss"] > 0
    for key, value in teacher.network.state_dict().items():
        assert torch.equal(value.contiguous(), weights[key].contiguous()), key
    run = tmp_path / "results" / "run"
    student = torch.load(run / "checkpoint_last.pt", weights_only=True)
    assert not any("teacher" in key or "network" in key for key in student)
    state = torch.load(run / "training_checkpoint_last.pt", weights_only=True)
    assert "teacher" not in json.dumps(list(state["model_state_dict"]))
    # the recipe that travels with the weights names the teacher; evaluation runs it as well
    kept = {"model.classification.pretrained": str(run / "checkpoint_last.pt")}
    found = evaluate(load_recipe(taught | kept))
    assert found["metrics"]["loss"] == pytest.approx(summary["last"]["val.loss"], rel=1e-5)


def test_a_student_is_evaluated_without_its_teacher(taught, tmp_path):
    """Its checkpoint says all that evaluation needs; the teacher may be gone."""
    summary = train(load_recipe(taught))
    Path(taught["teacher.model.classification.pretrained"]).unlink()
    recipe, _ = recipe_of(f"{summary['run']}/checkpoint_last.pt", [])
    assert recipe.loss.category is None
    assert evaluate(recipe)["metrics"]["top1"] == pytest.approx(summary["last"]["val.top1"])


def test_two_losses_share_one_teacher(taught):
    terms = [
        {"loss_category": "distillation", "distillation.name": name}
        for name in ("soft_kl_loss", "hard_distillation")
    ]
    task = build_task(
        load_recipe(taught | {"loss.category": "composite_loss", "loss.composite_loss": terms})
    )
    task.build_source("train")
    first, second = build_loss(task).losses
    assert first.teacher is second.teacher


def test_options_of_another_loss_than_the_terms_have_a_line(taught):
    terms = [{"loss_category": "classification", "distillation.soft_kl_loss.temperature": 4.0}]
    recipe = load_recipe(taught | {"loss.category": "composite_loss", "loss.composite_loss": terms})
    said = "\n".join(without_effect(recipe))
    assert "loss.composite_loss[0].distillation.soft_kl_loss.temperature has no effect" in said


def test_a_mistake_that_shows_with_the_first_batch_leaves_the_folder_free(taught):
    """More classes asked of the teacher than there are; the corrected command may use the label."""
    hard = {"loss.distillation.name": "hard_distillation"}
    with pytest.raises(UserError, match="topk: 5 is more than the 3 classes"):
        train(load_recipe(taught | hard | {"loss.distillation.hard_distillation.topk": 5}))
    train(load_recipe(taught | hard | {"loss.distillation.hard_distillation.topk": 2}))


def test_losses_are_added_up_and_reported_one_by_one(taught):
    terms = [
        {"loss_category": "classification", "loss_weight": 0.5},
        {
            "loss_category": "distillation",
            "loss_weight": 2.0,
            "distillation.name": "hard_distillation",
        },
        {"loss_category": "neural_augmentation", "neural_augmentation": {"alpha": 1}},
    ]
    recipe = load_recipe(taught | {"loss.category": "composite_loss", "loss.composite_loss": terms})
    (line,) = [line for line in without_effect(recipe) if "composite" in line]
    assert line.endswith("loss.composite_loss[2] has no effect: RangeAugment is not built")
    last = train(recipe)["last"]
    parts = last["val.loss.classification"], last["val.loss.distillation"]
    assert last["val.loss"] == pytest.approx(0.5 * parts[0] + 2 * parts[1], rel=1e-5)


def test_a_teacher_gets_images_normalised_as_it_was_trained():
    student = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.2))
    expected = Preprocessing(mean=(0.4, 0.0, 0.25), std=(0.25, 1.0, 2.0))
    pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64)

    def normalised(about):
        mean, std = (
            torch.tensor(v, dtype=pixels.dtype)[:, None, None] for v in (about.mean, about.std)
        )
        return (pixels - mean) / std

    teacher = Teacher(torch.nn.Identity(), fed=student, expected=expected)
    torch.testing.assert_close(teacher(normalised(student)), normalised(expected))
    same = Teacher(torch.nn.Identity(), fed=student, expected=student)
    assert torch.equal(same(pixels), pixels)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"loss.category": "distillation"}, "teacher.model.classification.pretrained: not given"),
        ({"loss.category": "composite_loss"}, "loss.composite_loss: no losses are listed"),
        ({"loss.category": "segmentation"}, "loss.category: segmentation, but the task is"),
        (
            {
                "loss.category": "composite_loss",
                "loss.composite_loss": [{"loss_category": "detection"}],
            },
            "loss_category: detection, but the task is classification",
        ),
        (
            {"loss.category": "distillation", "teacher.model.classification.name": "resnett"},
            "did you mean resnet",
        ),
    ],
)
def test_a_loss_that_cannot_be_is_refused_when_the_recipe_is_read(tiny_recipe, changes, line):
    with pytest.raises(RecipeError, match=line):
        load_recipe(tiny_recipe | changes)


def test_a_detector_has_no_teacher():
    with pytest.raises(RecipeError, match="a teacher classifies, but the task is detection"):
        load_recipe({"model.detection.name": "ssd", "loss.category": "distillation"})


def test_a_teacher_of_other_classes_is_refused(taught, image_folder, tmp_path):
    for split in ("train", "val"):
        for name in ("across", "down"):
            target = tmp_path / "two" / split / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(image_folder / split / name)
    two = {f"dataset.root_{split}": str(tmp_path / "two" / split) for split in ("train", "val")}
    with pytest.raises(UserError, match=r"teacher\.model\.classification\.pretrained"):
        train(load_recipe(taught | two))
