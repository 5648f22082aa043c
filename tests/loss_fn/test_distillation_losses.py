"""Binary cross entropy, distillation and composite losses: official values, hand-computed cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from config.registry import compose
from loss_fn import (
    CLASSIFICATION_LOSSES,
    DISTILLATION_LOSSES,
    BinaryCrossEntropy,
    BinaryCrossEntropyOptions,
    ClassificationLossSection,
    CompositeLoss,
    CrossEntropy,
    CrossEntropyOptions,
    HardDistillation,
    HardDistillationOptions,
    SoftKL,
    SoftKLOptions,
)
from loss_fn.section import DistillationLossSection

TRACES = json.loads(
    (Path(__file__).parents[1] / "reference" / "traces" / "losses.json").read_text()
)
CASES = {case["name"]: case for case in TRACES["cases"]}
IMAGES = torch.zeros(1)


def options_of(case, prefix):
    return {k.removeprefix(prefix): v for k, v in case["config"].items() if k.startswith(prefix)}


def logits_of(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bce_")])
def test_binary_cross_entropy_has_the_official_values_and_gradients(name):
    case = CASES[name]
    options = options_of(case, "loss.classification.binary_cross_entropy.")
    section = compose(ClassificationLossSection, CLASSIFICATION_LOSSES)(
        name="binary_cross_entropy", binary_cross_entropy=options
    )
    loss = CLASSIFICATION_LOSSES.build(section)
    g = np.random.default_rng(case["seed"])
    outputs = torch.tensor(
        g.standard_normal((case["n"], case["c"])) * case["scale"], requires_grad=True
    )
    target = g.integers(0, case["c"], (case["n"],))
    if "g.random" in case["gen"]:  # the trace drew labels first, though its text leaves that out
        target = g.random((case["n"], case["c"]))
    total = loss(IMAGES, outputs, torch.from_numpy(target)).total
    total.backward()
    assert total.item() == pytest.approx(case["loss"], rel=1e-6)
    np.testing.assert_allclose(outputs.grad.flatten()[:8], case["grad_first"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("how", ["mean", "sum", "batch_mean"])
def test_binary_cross_entropy_leaves_out_images_without_a_class(how):
    """As if they were absent, whatever the network says of them; nothing else gives 0."""
    loss = BinaryCrossEntropy(BinaryCrossEntropyOptions(reduction=how))
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    logits[3] = torch.nan
    logits.requires_grad_()
    found = loss(IMAGES, logits, torch.tensor([2, -1, 0, -1, 1]))
    found.total.backward()
    counted = logits.detach()[[0, 2, 4]]
    hot = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    expected = functional.binary_cross_entropy_with_logits(counted, hot, reduction="none")
    expected = {"mean": expected.mean(), "sum": expected.sum(), "batch_mean": expected.sum() / 3}
    torch.testing.assert_close(found.total, expected[how])
    assert found.units == (9 if how == "mean" else 3)
    assert torch.equal(logits.grad[[1, 3]], torch.zeros(2, 3))
    assert (logits.grad[[0, 2, 4]] != 0).all()
    for images in (0, 2):
        none = loss(IMAGES, torch.zeros(images, 3), torch.full((images,), -1))
        assert (none.total, none.units) == (0, 0)


def test_binary_cross_entropy_per_image_is_the_sum_over_the_images():
    logits, targets = logits_of(1, 5, 3), torch.tensor([0, 1, 2, 2, 1])
    found = {
        how: BinaryCrossEntropy(BinaryCrossEntropyOptions(reduction=how))(
            IMAGES, logits, targets
        ).total.item()
        for how in ("mean", "sum", "batch_mean")
    }
    by_hand = sum(
        math.log1p(math.exp(-logits[i, c]))
        if c == targets[i]
        else math.log1p(math.exp(logits[i, c]))
        for i in range(5)
        for c in range(3)
    )
    assert found["sum"] == pytest.approx(by_hand)
    assert found["batch_mean"] == pytest.approx(by_hand / 5)
    assert found["mean"] == pytest.approx(by_hand / 15)


@pytest.mark.parametrize("name", ["soft_kl_T1", "hard_top1"])
def test_distillation_has_the_official_values_and_gradients(name):
    case = CASES[name]
    kind = case["config"]["loss.distillation.name"]
    options = options_of(case, f"loss.distillation.{kind}.")
    section = compose(DistillationLossSection, DISTILLATION_LOSSES)(name=kind, **{kind: options})
    g = np.random.default_rng(case["seed"])
    student = torch.tensor(g.standard_normal((6, 12)) * 2, requires_grad=True)
    teacher = torch.tensor(g.standard_normal((6, 12)) * 2)
    loss = DISTILLATION_LOSSES.build(section, teacher=lambda images: teacher)
    total = loss(IMAGES, student, None).total
    total.backward()
    assert total.item() == pytest.approx(case["loss"], rel=1e-6)
    np.testing.assert_allclose(student.grad.flatten()[:8], case["grad_first"], rtol=1e-6, atol=1e-9)


def test_the_temperature_softens_both_and_keeps_the_size_of_the_loss():
    student, teacher, t = logits_of(1, 4, 5), logits_of(2, 4, 5), 3.0
    loss = SoftKL(SoftKLOptions(temperature=t), teacher=lambda images: teacher)
    p, q = (teacher / t).softmax(1), (student / t).softmax(1)
    by_hand = t * t * (p * (p / q).log()).sum() / 4
    assert loss(IMAGES, student, None).total.item() == pytest.approx(by_hand.item())
    assert SoftKL(SoftKLOptions(temperature=t), teacher=lambda images: student)(
        IMAGES, student, None
    ).total.item() == pytest.approx(0.0, abs=1e-12)


def test_several_decisions_of_the_teacher_are_smoothed_in_training_only():
    student, teacher = logits_of(1, 2, 4), torch.tensor([[4.0, 3, 0, 1], [0, 1, 5, 2]])
    options = HardDistillationOptions(topk=2, label_smoothing=0.2)
    loss = HardDistillation(options, teacher=lambda images: teacher)
    hot = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.float64)
    for training, target in ((True, hot * 0.8 + 0.05), (False, hot)):
        expected = functional.binary_cross_entropy_with_logits(student, target) * 4
        found = loss.train(training)(IMAGES, student, None).total
        assert found.item() == pytest.approx(expected.item())


def test_one_decision_of_the_teacher_is_a_label():
    student, teacher = logits_of(3, 3, 4), logits_of(4, 3, 4)
    loss = HardDistillation(
        HardDistillationOptions(label_smoothing=0.1), teacher=lambda images: teacher
    )
    expected = CrossEntropy(CrossEntropyOptions(label_smoothing=0.1))(
        IMAGES, student, teacher.argmax(1)
    )
    assert loss(IMAGES, student, None).total.item() == pytest.approx(expected.total.item())


def test_a_composite_adds_weighted_losses_and_reports_each_without_its_weight():
    class Mean(nn.Module):
        def forward(self, images, outputs, targets):
            return CrossEntropy(CrossEntropyOptions())(images, outputs * 0.5, targets)

    logits = logits_of(5, 6, 3).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    plain = CrossEntropy(CrossEntropyOptions())
    loss = CompositeLoss([("classification", 0.25, plain), ("distillation", 2.0, Mean())])
    found = loss(IMAGES, logits, labels)
    first = functional.cross_entropy(logits, labels)
    second = functional.cross_entropy(logits * 0.5, labels)
    assert found.total.item() == pytest.approx((0.25 * first + 2 * second).item())
    assert {name: value.item() for name, value in found.parts.items()} == pytest.approx(
        {"classification": first.item(), "distillation": second.item()}
    )
    assert found.total.requires_grad and not found.parts["classification"].requires_grad


def test_a_composite_of_one_loss_has_the_same_mean_over_batches():
    """Ignored labels: the mean goes over the images that count, however they are dealt."""
    logits, labels = logits_of(7, 8, 3), torch.tensor([0, -1, -1, -1, 2, 0, 1, 1])
    plain = CrossEntropy(CrossEntropyOptions())
    whole = plain(IMAGES, logits, labels).total.item()
    loss = CompositeLoss([("classification", 1.0, plain)])
    found = [loss(IMAGES, logits[a : a + 4], labels[a : a + 4]) for a in (0, 4)]
    mean = sum(f.total * f.units for f in found) / sum(f.units for f in found)
    assert mean.item() == pytest.approx(whole)
