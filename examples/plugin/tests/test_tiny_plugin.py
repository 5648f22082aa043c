"""Each component by itself, and all of them in the recipe."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_plugin.dataset import TinyFolders, TinyFoldersOptions
from tiny_plugin.loss import TinyFocal, TinyFocalOptions
from tiny_plugin.metric import TinyRecall, TinyRecallOptions
from tiny_plugin.observer import TinyTable, TinyTableOptions
from tiny_plugin.optimizer import TinyRmspropOptions, tiny_rmsprop
from tiny_plugin.sampler import TinyGrowing, TinyGrowingOptions
from tiny_plugin.schedule import TinySteps, TinyStepsOptions
from tiny_plugin.transform import TinyNoise, TinyNoiseOptions
from torch.nn import functional

import cvnets
from config.errors import UserError
from engine import load_recipe
from engine.metrics.metric import Observation
from engine.observers.observer import EvaluationRecord
from loss_fn.output import LossOutput
from optim.scheduler import SchedulePlan

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


def test_the_recipe_uses_every_component():
    recipe = load_recipe(RECIPE)
    assert recipe.model.classification.tiny_net.width == 16
    assert recipe.dataset.tiny_folders.per_class == 400
    assert recipe.image_augmentation.tiny_noise.enable
    assert recipe.sampler.tiny_growing.largest == 64
    assert recipe.loss.classification.tiny_focal.gamma == 1
    assert recipe.optim.tiny_rmsprop.momentum == 0.9
    assert recipe.scheduler.tiny_steps.drops == (6,)
    assert recipe.stats.tiny_recall.at_least == 5
    assert recipe.common.tiny_table.stages == ("Train", "Val")


def test_the_network_is_a_classifier_and_a_backbone():
    images = torch.rand(2, 3, 64, 64)
    assert cvnets.create_model("tiny_net", n_classes=5, width=4)(images).shape == (2, 5)
    backbone = cvnets.create_model("tiny_net", width=4).as_backbone(["l3", "l5"])
    maps = backbone.features(images)
    assert {level: value.shape[1:] for level, value in maps.items()} == {
        "l3": (12, 8, 8),
        "l5": (24, 2, 2),
    }


def test_the_data_set_takes_the_first_images_of_each_class(tmp_path):
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for count in range(3):
            pixels = np.full((4, 5, 3), 100 * number + count, np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{count}.png"), pixels)
    data = TinyFolders(TinyFoldersOptions(per_class=2), root=str(tmp_path), split="train")
    assert data.classes == ("a", "b")
    assert [(data.load(i)[0].max(), data.load(i)[1]) for i in range(len(data))] == [
        (0, 0), (1, 0), (100, 1), (101, 1),
    ]  # fmt: skip
    assert data.describe(3) == str(tmp_path / "b" / "1.png")
    with pytest.raises(UserError, match=r"^dataset\.root_val: no folder nowhere"):
        TinyFolders(TinyFoldersOptions(), root="nowhere", split="val")


def test_the_noise_paints_its_share_and_repeats_itself():
    noise = TinyNoise(TinyNoiseOptions(share=0.25), size=(80, 100))
    image = torch.zeros(3, 80, 100, dtype=torch.uint8)
    torch.manual_seed(1)
    first = noise(image)
    torch.manual_seed(1)
    assert torch.equal(noise(image), first)
    assert image.max() == 0  # what was given is left as it was
    painted = (first == 255).all(0)
    assert torch.equal(painted, (first == 255).any(0))
    assert painted.float().mean() == pytest.approx(0.25, abs=0.02)


def test_images_grow_and_the_pixels_of_a_batch_stay():
    sampler = TinyGrowing(TinyGrowingOptions(smallest=32, largest=64, epochs=4), batch_size=16)
    sizes = [sampler.sizes(epoch)[0] for epoch in (0, 2, 4, 9)]
    assert sizes == [(32, 32, 64), (48, 48, 28), (64, 64, 16), (64, 64, 16)]
    with pytest.raises(ValueError, match="smallest: 65 is above largest = 64; lower it"):
        TinyGrowingOptions(smallest=65, largest=64)


def test_the_focal_loss_without_focus_is_the_cross_entropy():
    logits, labels = torch.randn(6, 4), torch.randint(4, (6,))
    plain = functional.cross_entropy(logits, labels)
    loss = TinyFocal(TinyFocalOptions(gamma=0))(None, logits, labels)
    torch.testing.assert_close(loss.total, plain)
    focused = TinyFocal(TinyFocalOptions(gamma=2))(None, torch.tensor([[0.0, 0.0]]), labels[:1] * 0)
    torch.testing.assert_close(focused.total, 0.5**2 * torch.tensor(2.0).log())


def test_the_optimizer_keeps_the_groups_and_moves_at_the_rate_of_the_schedule():
    weight = torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [weight], "weight_decay": 0.0, "lr_multiplier": 1.0, "names": ["w"]}]
    optimizer = tiny_rmsprop(TinyRmspropOptions(alpha=0.0), groups=groups)
    optimizer.param_groups[0]["lr"] = 0.1
    weight.sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.9))


def test_the_rate_warms_up_and_drops():
    options = TinyStepsOptions(lr=1.0, factor=0.5, drops=(2, 3))
    rate = TinySteps(options, plan=SchedulePlan(warmup_iterations=10, warmup_init_lr=0.0))
    assert [rate(0, 5), rate(1, 10), rate(2, 20), rate(3, 30), rate(9, 90)] == [
        0.5, 1.0, 0.5, 0.25, 0.25,
    ]  # fmt: skip


def seen(answers: list[int], labels: list[int]) -> Observation:
    """A micro-batch of these answers, of 3 classes."""
    logits = functional.one_hot(torch.tensor(answers), 3).float()
    return Observation(logits, torch.tensor(labels), LossOutput(torch.tensor(0.0)), len(labels))


def test_the_recall_is_the_mean_over_classes_on_any_number_of_processes():
    batches = [seen([0, 0, 0, 1], [0, 0, 0, 0]), seen([1, 0, 2], [1, 1, 2]), seen([2, 2], [1, 2])]
    expected = {"": (75 + 100 / 3 + 100) / 3, "worst": 100 / 3}
    for processes in (1, 2, 3):
        ranks = [TinyRecall(TinyRecallOptions()) for _ in range(processes)]
        for number, batch in enumerate(batches):
            ranks[number % processes].update(batch)
        assert ranks[0].result([rank.state() for rank in ranks]) == pytest.approx(expected)
    frequent = TinyRecall(TinyRecallOptions(at_least=3))
    for batch in batches:
        frequent.update(batch)
    assert frequent.result([frequent.state()])[""] == pytest.approx((75 + 100 / 3) / 2)


def test_the_table_has_a_row_per_evaluation(tmp_path):
    table = TinyTable(TinyTableOptions(file="t.csv"), folder=tmp_path, quiet=True)
    for stage in ("Train", "Val"):
        table.on_evaluation(EvaluationRecord(stage, 3, 70, {"top1": 50.0, "loss": 1.5}, 10))
    assert (tmp_path / "t.csv").read_text().splitlines() == ["Val,3,50.0,1.5"]
