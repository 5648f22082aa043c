"""The multibox loss: official values, a plain loop over images and anchors, torchvision."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.nn import functional
from torchvision.models.detection import ssd as peer_ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops import box_convert, box_iou

from config.registry import compose
from cvnets.boxes.matcher import SSDMatcher, SSDMatcherOptions
from cvnets.boxes.output import DetectionOutput
from cvnets.models.detection import SSDAnchorOptions, SSDAnchors
from loss_fn import (
    DETECTION_LOSSES,
    DetectionLossSection,
    LossOutput,
    SSDMultiboxLoss,
    SSDMultiboxOptions,
)

TRACES = Path(__file__).parents[1] / "reference" / "traces" / "ssd.json"
CASES = {case["name"]: case for case in json.loads(TRACES.read_text())["cases"]}
LOSSES = [case for case in CASES.values() if case["kind"] == "multibox_loss"]
IMAGES = torch.zeros(1)
MATCHER = SSDMatcher(SSDMatcherOptions(iou_threshold=0.5))
FEW = SSDAnchorOptions(output_strides=(32, -1), aspect_ratios=((2.0,), (2.0, 3.0)))


def anchors_for(sizes, options, dtype=torch.float64):
    return SSDAnchors(options)(sizes, dtype=dtype, device=torch.device("cpu"))


def make(*, training=True, matcher=MATCHER, **options):
    loss = SSDMultiboxLoss(SSDMultiboxOptions(**options), matcher=matcher)
    return loss.train(training)


def random_case(seed, images, most, classes=5, sizes=((4, 3), (1, 1)), options=FEW):
    """Predictions that ask for gradients, and targets; the last of several images has no object."""
    generator = torch.Generator().manual_seed(seed)
    exact = {"generator": generator, "dtype": torch.float64}
    anchors = anchors_for(sizes, options)
    corners = torch.rand(images, most, 2, **exact) * 0.6
    boxes = torch.cat((corners, corners + torch.rand(images, most, 2, **exact) * 0.4 + 0.05), -1)
    labels = torch.randint(0, classes, (images, most), generator=generator)
    if images > 1:
        labels[-1] = 0
    scores = torch.randn(images, len(anchors), classes, **exact).requires_grad_()
    offsets = torch.randn(images, len(anchors), 4, **exact).requires_grad_()
    return DetectionOutput(scores, offsets, anchors), {"boxes": boxes, "labels": labels}


# --- official values -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case["name"])
def test_official_values(case):
    (matched,) = (CASES[name] for name in case["targets"])
    keys = ("iou_threshold", "center_variance", "size_variance")
    section = compose(DetectionLossSection, DETECTION_LOSSES)(
        ssd_multibox_loss={key: case[key] for key in ("neg_pos_ratio", "label_smoothing")}
    )
    matcher = SSDMatcher(SSDMatcherOptions(**{key: matched[key] for key in keys}))
    loss = DETECTION_LOSSES.build(section, matcher=matcher).train(case["training"])
    sizes = [row[1:3] for row in CASES[matched["anchors"]]["stride_h_w_count"]]
    anchors = anchors_for(sizes, SSDAnchorOptions(), torch.float32)  # as theirs: some overlaps tie
    truth = case["targets_gt"]
    targets = {key: torch.tensor([one[key] for one in truth]) for key in ("boxes", "labels")}
    for call, expected in enumerate(case["expect"]):
        g = np.random.default_rng(case["seed"] + call)
        scores = g.standard_normal((len(truth), len(anchors), case["n_classes"]))
        boxes = g.standard_normal((len(truth), len(anchors), 4))
        outputs = DetectionOutput(torch.from_numpy(scores), torch.from_numpy(boxes), anchors)
        found = loss(IMAGES, outputs, targets)
        assert found.total.item() == pytest.approx(expected["total_loss"], rel=1e-6)
        for part in ("reg_loss", "cls_loss"):
            assert found.parts[part].item() == pytest.approx(expected[part], rel=1e-6)


def test_all_official_cases_are_there():
    assert len(LOSSES) == 2


# --- other implementations -----------------------------------------------------------------------


def plain_loss(outputs, targets, *, ratio=3, smoothing=0.0, least=0):
    """Section 4 of the specification, image by image: (reg_loss, cls_loss)."""
    labels, regressions = MATCHER.match(targets["boxes"], targets["labels"], outputs.anchors)
    reg, cls, positives, negatives = 0.0, 0.0, 0, 0
    for scores, boxes, label, target in zip(*outputs[:2], labels, regressions, strict=True):
        losses = functional.cross_entropy(
            scores, label, reduction="none", label_smoothing=smoothing
        )
        background = [-row[0].item() for row in scores.log_softmax(dim=-1)]
        objects = [place for place in range(len(label)) if label[place] > 0]
        others = [place for place in range(len(label)) if label[place] == 0]
        others.sort(key=lambda place, loss=background: -loss[place])
        for place in objects:
            reg = reg + functional.smooth_l1_loss(boxes[place], target[place], reduction="sum")
        wanted = max(ratio * len(objects), least)
        for place in objects + others[:wanted]:
            cls = cls + losses[place]
        positives, negatives = positives + len(objects), negatives + wanted
    units = max(positives, negatives // max(ratio, 1) if least else 0, 1)
    return reg / units, cls / units


@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0, 1, 3, 50]),
    st.sampled_from([0.0, 0.1, 0.7]),
    st.sampled_from([0, 2, 7, 1000]),
)
@settings(max_examples=60, deadline=None)
def test_agrees_with_a_plain_loop(seed, images, most, ratio, smoothing, least):
    outputs, targets = random_case(seed, images, most)
    found = make(neg_pos_ratio=ratio, label_smoothing=smoothing, min_negatives=least)(
        IMAGES, outputs, targets
    )
    reg, cls = plain_loss(outputs, targets, ratio=ratio, smoothing=smoothing, least=least)
    total = torch.as_tensor(reg + cls, dtype=torch.float64)
    torch.testing.assert_close(found.total, total.detach(), check_dtype=False)
    for part, value in (("reg_loss", reg), ("cls_loss", cls)):
        torch.testing.assert_close(found.parts[part].item(), float(torch.as_tensor(value).detach()))
    leaves = outputs[:2]
    ours = torch.autograd.grad(found.total, leaves)
    if not total.requires_grad:
        assert not any(gradient.any() for gradient in ours)
        return
    theirs = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("seed", range(1, 9))  # 0: an overlap of 0.50004
def test_agrees_with_torchvision(seed):
    """Matching, too: theirs adds nothing to the denominator, which decides nothing here."""
    peer = peer_ssd.SSD(
        nn.Identity(),
        DefaultBoxGenerator([[2]]),
        (320, 320),
        6,
        head=nn.Identity(),
        iou_thresh=MATCHER.iou_threshold,
    )
    sizes = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
    outputs, targets = random_case(seed, 4, 6, 6, sizes, SSDAnchorOptions())
    corners = box_convert(outputs.anchors, "cxcywh", "xyxy")
    theirs, matched = [], []
    for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True):
        theirs.append({"boxes": boxes[labels > 0], "labels": labels[labels > 0]})
        nothing = torch.full((len(corners),), -1)
        overlaps = box_iou(theirs[-1]["boxes"], corners)
        matched.append(peer.proposal_matcher(overlaps) if len(overlaps) else nothing)
    expected = peer.compute_loss(
        theirs,
        {"bbox_regression": outputs.boxes, "cls_logits": outputs.scores},
        [corners] * 4,
        matched,
    )
    found = make()(IMAGES, outputs, targets)
    torch.testing.assert_close(found.parts["reg_loss"], expected["bbox_regression"].detach())
    torch.testing.assert_close(found.parts["cls_loss"], expected["classification"].detach())
    leaves = outputs[:2]
    total = expected["bbox_regression"] + expected["classification"]
    pairs = zip(
        torch.autograd.grad(found.total, leaves), torch.autograd.grad(total, leaves), strict=True
    )
    for ours, other in pairs:
        torch.testing.assert_close(ours, other)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_are_those_of_the_values(smoothing):
    outputs, targets = random_case(5, 2, 2, sizes=((1, 2), (1, 1)))
    loss = make(label_smoothing=smoothing)

    def total(scores, boxes):
        return loss(IMAGES, DetectionOutput(scores, boxes, outputs.anchors), targets).total

    assert torch.autograd.gradcheck(total, outputs[:2])


# --- properties ----------------------------------------------------------------------------------


def test_by_hand():
    """One anchor answers for the object, exactly; of the three others the hardest counts, too."""
    anchors = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]] * 2, dtype=torch.float64)
    anchors[2:, 1] = 0.9
    scores = torch.zeros(1, 4, 2, dtype=torch.float64)
    scores[0, :, 1] = torch.tensor([1.0, 2.0, -1.0, 3.0])
    offsets = torch.zeros(1, 4, 4, dtype=torch.float64)
    offsets[0, 0] = torch.tensor([0.5, 0.0, 0.0, -3.0])
    targets = {"boxes": torch.tensor([[[0.0, 0.0, 0.5, 1.0]]]), "labels": torch.tensor([[1]])}
    matcher = SSDMatcher(SSDMatcherOptions(iou_threshold=0.9))
    loss = make(neg_pos_ratio=1, matcher=matcher)
    found = loss(IMAGES, DetectionOutput(scores, offsets, anchors), targets)
    assert found.parts["reg_loss"].item() == pytest.approx(0.5 * 0.25 + 2.5)
    expected = np.log1p(np.exp(-1.0)) + np.log1p(np.exp(3.0))
    assert found.parts["cls_loss"].item() == pytest.approx(expected)
    assert found.total.item() == pytest.approx(2.625 + expected)
    assert not any(part.requires_grad for part in found.parts.values())


def test_of_equal_negatives_the_first_count():
    outputs, targets = random_case(1, 1, 1)
    targets["labels"][:] = 2
    equal = torch.zeros_like(outputs.scores).requires_grad_()
    loss = make(neg_pos_ratio=2)
    total = loss(IMAGES, DetectionOutput(equal, outputs.boxes, outputs.anchors), targets).total
    (gradient,) = torch.autograd.grad(total, equal)
    counted = gradient[0].any(dim=-1).nonzero()[:, 0].tolist()
    labels, _ = MATCHER.match(targets["boxes"], targets["labels"], outputs.anchors)
    positive = labels[0].nonzero()[:, 0].tolist()
    others = [place for place in range(len(outputs.anchors)) if place not in positive]
    assert counted == sorted(positive + others[: 2 * len(positive)])


def test_a_batch_without_objects():
    outputs, targets = random_case(0, 3, 2)
    targets = {"boxes": torch.zeros(3, 1, 4), "labels": torch.zeros(3, 1, dtype=torch.int64)}
    found = make()(IMAGES, outputs, targets)
    assert isinstance(found, LossOutput)
    assert [found.total.item(), *(part.item() for part in found.parts.values())] == [0.0] * 3
    gradients = torch.autograd.grad(found.total, outputs[:2])  # there are some, for DDP
    assert not any(gradient.any() for gradient in gradients)
    with_negatives = make(min_negatives=2)(IMAGES, outputs, targets)
    scores, boxes = torch.autograd.grad(with_negatives.total, outputs[:2])
    assert scores.any(dim=-1).sum(dim=1).tolist() == [2, 2, 2] and not boxes.any()


def test_background_weighs_as_much_in_a_large_batch_as_in_a_small_one():
    """Images without objects, all predictions alike: the mean does not depend on their number."""
    found = []
    for images in (1, 2, 16):
        outputs, _ = random_case(0, images, 1)
        zeros = DetectionOutput(torch.zeros_like(outputs.scores), outputs.boxes, outputs.anchors)
        targets = {"boxes": torch.zeros(images, 1, 4), "labels": torch.zeros(images, 1).long()}
        found.append(make(min_negatives=6)(IMAGES, zeros, targets).total.item())
    expected = 3 * math.log(outputs.scores.shape[2])
    assert found == pytest.approx([expected] * 3)


def test_units_join_batches_to_the_loss_of_all():
    outputs, targets = random_case(6, 5, 3)
    targets["labels"][1] = 0
    whole = make()(IMAGES, outputs, targets)
    parts = [
        make()(
            IMAGES,
            DetectionOutput(outputs.scores[rows], outputs.boxes[rows], outputs.anchors),
            {key: value[rows] for key, value in targets.items()},
        )
        for rows in (slice(0, 1), slice(1, 2), slice(2, 5))
    ]
    assert sum(part.units for part in parts) == whole.units > 0
    total = sum(part.total * part.units for part in parts) / whole.units
    torch.testing.assert_close(total, whole.total)


def test_smoothing_is_for_training():
    outputs, targets = random_case(2, 2, 3)
    plain = make()(IMAGES, outputs, targets).total
    smooth = {mode: make(label_smoothing=0.3, training=mode) for mode in (True, False)}
    found = {mode: loss(IMAGES, outputs, targets).total for mode, loss in smooth.items()}
    assert torch.equal(found[False], plain) and not torch.isclose(found[True], plain)


def test_padding_makes_no_difference():
    outputs, targets = random_case(4, 3, 3)
    more = {
        "boxes": functional.pad(targets["boxes"], (0, 0, 2, 5)),
        "labels": functional.pad(targets["labels"], (2, 5)),
    }
    assert torch.equal(make()(IMAGES, outputs, targets).total, make()(IMAGES, outputs, more).total)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype):
    outputs, targets = random_case(6, 2, 3)
    low = [tensor.detach().to(dtype).requires_grad_() for tensor in outputs[:2]]
    anchors = outputs.anchors.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = make()(IMAGES, DetectionOutput(*low, anchors), targets)
    exact = DetectionOutput(*(tensor.detach().float() for tensor in low), anchors)
    expected = make()(IMAGES, exact, targets)
    assert found.total.dtype == torch.float32 and torch.equal(found.total, expected.total)
    assert all(gradient.dtype == dtype for gradient in torch.autograd.grad(found.total, low))


def test_the_loss_does_not_look_at_values():
    """On the meta device there are none, so nothing that a GPU would have to wait for."""
    with torch.device("meta"):
        outputs = DetectionOutput(
            torch.rand(2, 50, 7, requires_grad=True),
            torch.rand(2, 50, 4, requires_grad=True),
            torch.rand(50, 4),
        )
        targets = {"boxes": torch.rand(2, 3, 4), "labels": torch.ones(2, 3, dtype=torch.int64)}
        total = make(label_smoothing=0.1)(IMAGES, outputs, targets).total
        total.backward()
    assert total.shape == () and outputs.scores.grad.shape == (2, 50, 7)


@pytest.mark.parametrize("iterations", [0, 1000])
def test_balancing_is_refused(iterations):
    with pytest.raises(ValidationError, match="max_monitor_iter: only -1 is possible: with balanc"):
        SSDMultiboxOptions(max_monitor_iter=iterations)
    assert SSDMultiboxOptions(max_monitor_iter=-1, update_wt_freq=50).update_wt_freq == 50
