"""The classification cross entropy: official values, torch's own, and hand-computed cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from config.registry import compose
from loss_fn import (
    CLASSIFICATION_LOSSES,
    ClassificationLossSection,
    CrossEntropy,
    CrossEntropyOptions,
    LossOutput,
    LossSection,
)

TRACES = Path(__file__).parents[1] / "reference" / "traces"
CASES = [
    case
    for case in json.loads((TRACES / "losses.json").read_text())["cases"]
    if case["name"].startswith("ce_")
]
IMAGES = torch.zeros(1)


def loss_of(outputs, targets, *, training=True, **options):
    loss = CrossEntropy(CrossEntropyOptions(**options)).train(training)
    return loss(IMAGES, outputs, targets).total


def random_case(seed, n=12, c=5):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, c, (n,), generator=generator)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_official_values_and_gradients(case):
    prefix = "loss.classification.cross_entropy."
    options = {k.removeprefix(prefix): v for k, v in case["config"].items() if k.startswith(prefix)}
    section = compose(ClassificationLossSection, CLASSIFICATION_LOSSES)(cross_entropy=options)
    loss = CLASSIFICATION_LOSSES.build(section).train(case["training"])
    g = np.random.default_rng(case["seed"])
    logits = g.standard_normal((case["n"], case["c"])) * case["scale"]
    target = g.integers(0, case["c"], (case["n"],))
    if "ignore_index" in case["gen"]:
        target[::5] = options["ignore_index"]
    outputs = torch.tensor(logits, dtype=getattr(torch, case["dtype"]), requires_grad=True)
    total = loss(IMAGES, outputs, torch.from_numpy(target)).total
    total.backward()
    close = {"rel": case["tolerance"], "abs": case["tolerance"] * 1e-3}
    assert total.item() == pytest.approx(case["loss"], **close)
    assert outputs.grad.abs().sum().item() == pytest.approx(case["grad_abs_sum"], **close)
    assert outputs.grad.flatten()[:8].tolist() == pytest.approx(case["grad_first"], **close)


def test_all_official_cases_are_there():
    assert len(CASES) == 4


def test_by_hand():
    """Two classes: -ln of the probability, 1/4 and 1/2."""
    outputs = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]], dtype=torch.float64)
    total = loss_of(outputs, torch.tensor([0, 1]))
    assert total.item() == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-12)


def test_class_weights_by_hand():
    """Labels 0 0 0 1 and one ignored: shares 3/4 and 1/4, class 2 absent; the ignored one is out."""
    logits = torch.tensor([[0.3, -1.0, 2.0]] * 5, dtype=torch.float64)
    log_p = torch.log_softmax(logits[0], 0).tolist()
    w = [1 / math.log(1.1 + 0.75), 1 / math.log(1.1 + 0.25)]
    expected = -(3 * w[0] * log_p[0] + w[1] * log_p[1]) / (3 * w[0] + w[1])
    labels = torch.tensor([0, 0, -1, 0, 1])
    assert loss_of(logits, labels, class_weights=True).item() == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 10**6), st.floats(0.0, 0.9), st.booleans(), st.booleans())
def test_agrees_with_torch(seed, smoothing, training, weighted):
    logits, labels = random_case(seed)
    weights = None
    if weighted:
        share = torch.bincount(labels, minlength=5).double() / len(labels)
        weights = torch.where(share > 0, 1 / torch.log(1.1 + share), 0.0)
    expected = functional.cross_entropy(
        logits, labels, weight=weights, label_smoothing=smoothing if training else 0.0
    )
    total = loss_of(
        logits, labels, training=training, label_smoothing=smoothing, class_weights=weighted
    )
    torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-12)


@given(st.integers(0, 10**6), st.floats(0.0, 0.9), st.booleans())
def test_one_hot_probabilities_equal_labels(seed, smoothing, weighted):
    logits, labels = random_case(seed)
    options = {"label_smoothing": smoothing, "class_weights": weighted}
    hot = functional.one_hot(labels, 5).double()
    torch.testing.assert_close(
        loss_of(logits, hot, **options), loss_of(logits, labels, **options), rtol=1e-10, atol=1e-12
    )


@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_loss_of_mixed_targets_is_the_mixed_loss(seed, share):
    logits, first = random_case(seed)
    _, second = random_case(seed + 1)
    hot = [functional.one_hot(labels, 5).double() for labels in (first, second)]
    mixed = share * hot[0] + (1 - share) * hot[1]
    expected = share * loss_of(logits, first) + (1 - share) * loss_of(logits, second)
    torch.testing.assert_close(loss_of(logits, mixed), expected, rtol=1e-10, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 11), st.booleans(), st.sampled_from([-1, 2, 255]))
def test_ignored_images_might_as_well_be_absent(seed, count, weighted, ignore_index):
    logits, labels = random_case(seed)
    labels = torch.where(labels == ignore_index, 0, labels)
    marked = labels.clone()
    marked[:count] = ignore_index
    options = {"class_weights": weighted, "ignore_index": ignore_index, "label_smoothing": 0.1}
    torch.testing.assert_close(
        loss_of(logits, marked, **options),
        loss_of(logits[count:], labels[count:], **options),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("images", [0, 4])
def test_nothing_but_ignored_images_gives_zero(weighted, images):
    outputs = torch.randn(images, 3, requires_grad=True)
    labels = torch.full((images,), -1)
    total = loss_of(outputs, labels, class_weights=weighted, label_smoothing=0.1)
    total.backward()
    assert total.item() == 0.0
    assert torch.equal(outputs.grad, torch.zeros(images, 3))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype, soft, weighted):
    logits, labels = random_case(3)
    low = logits.to(dtype)
    targets = functional.one_hot(labels, 5).to(dtype) if soft else labels
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss_of(low, targets, class_weights=weighted)
    exact = loss_of(low.double(), targets.double() if soft else targets, class_weights=weighted)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(exact.item(), rel=1e-6)


def test_smoothing_is_off_in_evaluation():
    logits, labels = random_case(1)
    smooth = loss_of(logits, labels, label_smoothing=0.1)
    assert loss_of(logits, labels, training=False, label_smoothing=0.1) == loss_of(logits, labels)
    assert smooth != loss_of(logits, labels)


def test_labels_of_small_integer_types():
    logits, labels = random_case(2)
    assert loss_of(logits, labels.to(torch.uint8)) == loss_of(logits, labels)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 2)),
        (torch.zeros(4, 3, 2), torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_fit_are_named(outputs, targets):
    with pytest.raises(ValueError, match=r"logits \[B, C\]"):
        loss_of(outputs, targets)


def test_output_is_scalar_and_frozen():
    output = LossOutput(torch.tensor(1.0), {"a": torch.tensor(0.5)})
    with pytest.raises(AttributeError):
        output.total = torch.tensor(2.0)
    with pytest.raises(ValueError, match=r"'a' has shape \(2,\)"):
        LossOutput(torch.tensor(1.0), {"a": torch.zeros(2)})


def test_official_defaults():
    section = compose(ClassificationLossSection, CLASSIFICATION_LOSSES)()
    assert section.name == "cross_entropy"
    assert section.cross_entropy == CrossEntropyOptions(
        label_smoothing=0.0, ignore_index=-1, class_weights=False
    )
    assert LossSection().category is None


@pytest.mark.parametrize("values", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"x": 1}])
def test_refused(values):
    with pytest.raises(ValidationError):
        CrossEntropyOptions(**values)
