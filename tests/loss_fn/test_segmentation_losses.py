"""Cross entropy of segmentation: official values, torch's own, properties."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cvnets.models.dense import SegmentationOutput
from loss_fn import SegmentationCrossEntropy, SegmentationCrossEntropyOptions

TRACES = Path(__file__).parents[1] / "reference" / "traces" / "losses.json"
CASES = [c for c in json.loads(TRACES.read_text())["cases"] if c["name"].startswith("seg_")]


def make(training=True, **options):
    loss = SegmentationCrossEntropy(SegmentationCrossEntropyOptions(**options))
    return loss.train(training)


def output(logits, aux=None):
    return SegmentationOutput(logits, aux, tuple(logits.shape[2:]))


def random_case(images=2, classes=4, ignored=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, 6, 8, generator=generator).double().requires_grad_()
    mask = torch.randint(classes, (images, 6, 8), generator=generator, dtype=torch.uint8)
    left_out = torch.rand(images, 6, 8, generator=generator) < ignored
    return logits, mask.masked_fill(left_out, 255)


def test_all_official_cases_are_there():
    assert len(CASES) == len([c for c in CASES if "expect" in c]) >= 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_official_values(case):
    g = np.random.default_rng(case["seed"])
    logits = torch.from_numpy(g.standard_normal(case["pred_shape"]) * 2)
    mask = g.integers(0, case["pred_shape"][1], case["target_shape"])
    mask[:, :2] = 255
    aux = case["aux_shape"] and torch.from_numpy(g.standard_normal(case["aux_shape"]) * 2)
    prefix = "loss.segmentation.cross_entropy."
    options = {k.removeprefix(prefix): v for k, v in case["config"].items() if k.startswith(prefix)}
    loss = make(case["training"], **options)
    mask = torch.from_numpy(mask).to(torch.uint8)
    found = loss(torch.zeros(2, 3, 12, 16), output(logits, aux), {"mask": mask})
    values = {"total_loss": found.total, **found.parts}
    for name, expected in case["expect"].items():
        assert values[name].item() == pytest.approx(expected, rel=1e-6), name


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_are_those_of_torch(smoothing, weighted):
    logits, mask = random_case()
    found = make(class_weights=weighted, label_smoothing=smoothing)(
        None, output(logits), {"mask": mask}
    )
    weights = None
    if weighted:
        counts = np.array([(mask == k).sum() for k in range(4)])
        weights = torch.tensor(1 / np.log(1.1 + counts / counts.sum()))
    expected = F.cross_entropy(
        logits, mask.long(), weights, ignore_index=255, label_smoothing=smoothing
    )
    torch.testing.assert_close(found.total, expected, rtol=1e-6, atol=1e-7)
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (found.total, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_class_weights_are_for_training():
    logits, mask = random_case()
    weighted = make(training=False, class_weights=True)(None, output(logits), {"mask": mask})
    plain = make(training=False)(None, output(logits), {"mask": mask})
    assert torch.equal(weighted.total, plain.total) and torch.equal(weighted.units, plain.units)


def test_a_class_may_be_left_out_besides():
    logits, mask = random_case()
    found = make(ignore_index=0)(None, output(logits), {"mask": mask})
    expected = F.cross_entropy(logits, mask.masked_fill(mask == 0, 255).long(), ignore_index=255)
    torch.testing.assert_close(found.total, expected)


@pytest.mark.parametrize("index", [-1, 255])
def test_without_any_pixel_the_loss_is_zero_and_has_a_gradient(index):
    logits, mask = random_case()
    for weighted in (False, True):
        loss = make(ignore_index=index, class_weights=weighted)
        found = loss(None, output(logits, logits * 2), {"mask": torch.full_like(mask, 255)})
        assert found.total.item() == 0 == found.units.item()
        assert not torch.autograd.grad(found.total, logits)[0].any()


def test_units_join_micro_batches_to_the_mean_over_all_pixels():
    logits, mask = random_case(images=5)
    mask[1] = 255
    whole = make()(None, output(logits), {"mask": mask})
    parts = [
        make()(None, output(logits[rows]), {"mask": mask[rows]})
        for rows in (slice(0, 1), slice(1, 2), slice(2, 5))
    ]
    assert sum(part.units for part in parts) == whole.units == (mask != 255).sum()
    joined = sum(part.total * part.units for part in parts) / whole.units
    torch.testing.assert_close(joined, whole.total)


def test_logits_are_enlarged_to_the_mask():
    """One column of two pixels, 4 rows: a third of the way at each step, corners on corners."""
    logits = torch.tensor([[[[0.0], [3.0]], [[0.0], [0.0]]]])
    mask = torch.zeros(1, 4, 1, dtype=torch.uint8)
    found = make()(None, SegmentationOutput(logits, None, (4, 1)), {"mask": mask})
    expected = sum(math.log(1 + math.exp(-x)) for x in (0, 1, 2, 3)) / 4
    assert found.total.item() == pytest.approx(expected, rel=1e-6)


def test_low_precision_is_computed_in_float32():
    logits, mask = random_case()
    low = logits.detach().to(torch.bfloat16)
    found = make()(None, output(low, low), {"mask": mask})
    expected = make()(None, output(low.float(), low.float()), {"mask": mask})
    assert found.total.dtype == torch.float32
    assert torch.equal(found.total, expected.total)
