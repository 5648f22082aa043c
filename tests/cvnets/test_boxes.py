"""Anchors, coding, matching and selection: official numbers, plain loops, torchvision, properties."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torchvision.models.detection import ssd as peer_ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops import box_convert

import cvnets.boxes.matcher as matching
from cvnets.boxes.coding import Variances, decode, encode
from cvnets.boxes.matcher import SSDMatcher, SSDMatcherOptions
from cvnets.boxes.selection import Limits, select
from cvnets.kinds import ANCHOR_GENERATORS, MATCHERS
from cvnets.models.detection import SSDAnchorOptions, SSDAnchors

TRACES = Path(__file__).parents[1] / "reference" / "traces" / "ssd.json"
CASES = json.loads(TRACES.read_text())["cases"]
CPU = torch.device("cpu")
SIZES_320 = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
# The official numbers were computed in float32, where offsets lose digits to cancellation.
OFFICIAL = {"rtol": 1e-5, "atol": 1e-5}


def cases(kind: str) -> list:
    return [pytest.param(case, id=case["name"]) for case in CASES if case["kind"] == kind]


def as_tuples(value):
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def anchor_options(config: dict) -> SSDAnchorOptions:
    prefix = "anchor_generator.ssd."
    given = {k.removeprefix(prefix): as_tuples(v) for k, v in config.items() if prefix in k}
    return SSDAnchorOptions(**given)


def official_anchors(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return SSDAnchors(SSDAnchorOptions())(SIZES_320, dtype=dtype, device=CPU)


def test_all_official_cases_are_there():
    kinds = [case["kind"] for case in CASES]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "anchors": 3,
        "matcher": 3,
        "codec": 1,
        "multibox_loss": 2,
    }


# --- anchors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("anchors"))
def test_official_anchors(case):
    generator = SSDAnchors(anchor_options(case["config"]))
    sizes = [(height, width) for _, height, width, _ in case["stride_h_w_count"]]
    found = generator(sizes, dtype=torch.float64, device=CPU)
    assert generator.strides == tuple(stride for stride, *_ in case["stride_h_w_count"])
    assert list(generator.per_location) == case["anchors_per_location"]
    assert found.shape == (case["count"], 4)
    for name, part in (("first_20", found[:20]), ("last_20", found[-20:])):
        torch.testing.assert_close(part, torch.tensor(case[name], dtype=torch.float64), **OFFICIAL)
    sums = torch.tensor(case["column_sums"], dtype=torch.float64)
    torch.testing.assert_close(found.sum(dim=0), sums, **OFFICIAL)


def test_default_anchors_are_those_of_the_official_recipes():
    official = next(case for case in CASES if case["name"] == "anchors_official_320")
    assert anchor_options(official["config"]) == SSDAnchorOptions()


def test_anchors_by_hand():
    """One map of 1 x 2 cells, scales 0.2 and 1.0: sides 0.2, sqrt(0.2), then 0.2 * 2 and 0.2 / 2."""
    options = SSDAnchorOptions(
        output_strides=(32,), aspect_ratios=((4.0, 4.0),), min_scale_ratio=0.2, max_scale_ratio=1.0
    )
    generator = SSDAnchors(options)
    assert generator.per_location == (4,)
    between = math.sqrt(0.2)
    shapes = [(0.2, 0.2), (between, between), (0.4, 0.1), (0.1, 0.4)]
    expected = [(cx, 0.5, w, h) for cx in (0.25, 0.75) for w, h in shapes]
    found = generator([(1, 2)], dtype=torch.float64, device=CPU)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_clipping_is_of_the_four_numbers():
    options = {"output_strides": (32,), "aspect_ratios": ((9.0,),), "min_scale_ratio": 0.5}
    sizes, kind = [(1, 1)], {"dtype": torch.float64, "device": CPU}
    clipped = SSDAnchors(SSDAnchorOptions(**options))(sizes, **kind)
    free = SSDAnchors(SSDAnchorOptions(**options, no_clipping=True))(sizes, **kind)
    assert free[2].tolist() == pytest.approx([0.5, 0.5, 1.5, 0.5 / 3])
    assert clipped[2].tolist() == pytest.approx([0.5, 0.5, 1.0, 0.5 / 3])
    torch.testing.assert_close(clipped, free.clamp(0, 1), rtol=0, atol=0)


def test_anchors_are_made_once():
    generator = SSDAnchors(SSDAnchorOptions())
    with torch.inference_mode():
        first = generator(SIZES_320, dtype=torch.float32, device=CPU)
    assert not first.is_inference()  # or training after an evaluation would fail
    assert generator(list(map(list, SIZES_320)), dtype=torch.float32, device="cpu") is first
    assert generator(SIZES_320, dtype=torch.float64, device=CPU).dtype == torch.float64
    assert generator(SIZES_320, dtype=torch.float32, device=torch.device("meta")).is_meta
    others = [((n, n), *SIZES_320[1:]) for n in range(1, 100)]
    for sizes in others:
        generator(sizes, dtype=torch.float32, device=CPU)
    assert len(generator._made) <= 64
    again = pickle.loads(pickle.dumps(copy.deepcopy(generator)))
    assert torch.equal(again(SIZES_320, dtype=torch.float32, device=CPU), first)


def test_anchors_do_not_care_for_the_default_device():
    with torch.device("meta"):
        found = SSDAnchors(SSDAnchorOptions())(SIZES_320, dtype=torch.float64, device=CPU)
    assert torch.equal(found, official_anchors())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output_strides": (16, 32)}, "aspect_ratios: 6 lists for the 2 levels of output_strides"),
        ({"output_strides": (16, 0, 64, 128, 256, -1)}, "output_strides: a stride must be"),
        ({"aspect_ratios": ((2.0,), (-2.0,), (), (), (), ())}, "aspect_ratios: a ratio must be"),
        ({"min_scale_ratio": 1.1}, "min_scale_ratio: 1.1 is greater than max_scale_ratio, 1.05"),
        ({"step": (2,)}, "step: only 1 is possible"),
        ({"output_strides": (), "aspect_ratios": ()}, "at least 1 item"),
    ],
)
def test_anchors_that_cannot_be(given, message):
    with pytest.raises(ValidationError, match=message):
        SSDAnchorOptions(**given)


def test_what_is_registered():
    assert ANCHOR_GENERATORS["ssd"].sections == {"ssd": SSDAnchorOptions}
    assert MATCHERS["ssd"].sections == {"ssd": SSDMatcherOptions}


# --- coding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("codec"))
def test_official_coding(case):
    variances = Variances(case["center_variance"], case["size_variance"])
    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in case.items() if type(v) is list}
    anchors = tensors["priors_center_form"]
    exact = {"rtol": 1e-6, "atol": 1e-9}
    found = encode(tensors["gt_center_form"], anchors, variances)
    torch.testing.assert_close(found, tensors["encoded"], **exact)
    found = decode(tensors["locations"], anchors, variances)
    torch.testing.assert_close(found, tensors["decoded_center_form"], **exact)
    options = SSDMatcherOptions(center_variance=variances.center, size_variance=variances.size)
    found = SSDMatcher(options).decode(tensors["locations"][None], anchors)
    torch.testing.assert_close(found, tensors["decoded_corner_form"][None], **exact)


@given(st.integers(0, 10**6), st.floats(0.01, 2.0), st.floats(0.01, 2.0))
def test_decoding_undoes_encoding(seed, center, size):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(3, 7, 4, generator=generator, dtype=torch.float64) + 0.01
    anchors = torch.rand(7, 4, generator=generator, dtype=torch.float64) + 0.01
    coded = encode(boxes, anchors, Variances(center, size))
    torch.testing.assert_close(decode(coded, anchors, Variances(center, size)), boxes)


# --- matching ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("matcher"))
def test_official_matching(case):
    options = ("iou_threshold", "center_variance", "size_variance")
    matcher = SSDMatcher(SSDMatcherOptions(**{key: case[key] for key in options}))
    labels, regressions = matcher.match(
        torch.tensor([case["gt_boxes_xyxy"]]),
        torch.tensor([case["gt_labels"]]),
        official_anchors(torch.float32),  # objects on the centre line tie in float32, as recorded
    )
    assert labels.dtype == torch.int64 and labels.shape == (1, 3232)
    positive = labels[0].nonzero()[:, 0]
    assert positive.tolist() == case["positive_index"]
    assert labels[0, positive].tolist() == case["positive_label"]
    expected = torch.tensor(case["positive_regression"])
    torch.testing.assert_close(regressions[0, positive], expected, **OFFICIAL)
    # of the background, too, because every anchor has a nearest object
    sums = torch.tensor(case["all_regression_column_sums"], dtype=torch.float64)
    torch.testing.assert_close(regressions[0].double().sum(dim=0), sums, rtol=1e-5, atol=1e-2)


def plain_match(boxes, labels, anchors, threshold):
    """Section 3 of the specification for one image, object by object: labels and owners."""
    objects = [number for number, label in enumerate(labels) if label > 0]
    overlaps = {}
    for number in objects:
        for place, anchor in enumerate(anchors):
            width = min(boxes[number][2], anchor[2]) - max(boxes[number][0], anchor[0])
            height = min(boxes[number][3], anchor[3]) - max(boxes[number][1], anchor[1])
            shared = max(width, 0.0) * max(height, 0.0)
            areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (boxes[number], anchor)]
            overlaps[number, place] = shared / (sum(areas) - shared + 1e-5)
    if not objects:
        return [0] * len(anchors), [None] * len(anchors)
    places = range(len(anchors))
    owners = [max(objects, key=lambda n, p=place: (overlaps[n, p], -n)) for place in places]
    best = [overlaps[owner, place] for place, owner in enumerate(owners)]
    for number in objects:
        place = max(places, key=lambda p, n=number: (overlaps[n, p], -p))
        owners[place], best[place] = number, 2.0
    found = [
        labels[owner] if overlap >= threshold else 0
        for owner, overlap in zip(owners, best, strict=True)
    ]
    return found, owners


def random_objects(generator, images, most):
    """Boxes and labels with padding anywhere; some objects twice, some images without any."""
    corners = torch.rand(images, most, 2, generator=generator, dtype=torch.float64) * 0.8
    sides = torch.rand(images, most, 2, generator=generator, dtype=torch.float64) * 0.5 + 0.02
    boxes = torch.cat((corners, corners + sides), dim=-1)
    labels = torch.randint(0, 5, (images, most), generator=generator)
    if most > 2:
        boxes[:, 2] = boxes[:, 1]
    labels[-1] = 0
    return boxes, labels


@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    st.sampled_from([1, 100, 10**6]),
)
@settings(max_examples=60)
def test_matching_agrees_with_a_plain_loop(seed, images, most, threshold, at_a_time):
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = random_objects(generator, images, most)
    options = SSDAnchorOptions(output_strides=(32, -1), aspect_ratios=((2.0,), (2.0, 3.0)))
    anchors = SSDAnchors(options)([(3, 2), (1, 1)], dtype=torch.float64, device=CPU)
    matcher = SSDMatcher(SSDMatcherOptions(iou_threshold=threshold))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matching._AT_A_TIME, "cpu", at_a_time)
        found, regressions = matcher.match(boxes, labels, anchors)
    assert regressions.isfinite().all()
    corners = box_convert(anchors, "cxcywh", "xyxy").tolist()
    decoded = matcher.decode(regressions, anchors)
    for image in range(images):
        expected, owners = plain_match(
            boxes[image].tolist(), labels[image].tolist(), corners, threshold
        )
        assert found[image].tolist() == expected
        for place, owner in enumerate(owners):
            if owner is not None:
                torch.testing.assert_close(decoded[image, place], boxes[image, owner])


def test_the_later_of_two_objects_gets_the_anchor():
    """The same box three times: each claims the same anchor, and none reaches the threshold."""
    matcher = SSDMatcher(SSDMatcherOptions(iou_threshold=0.9))
    boxes = torch.tensor([[[0.5, 0.5, 0.505, 0.505]] * 3])
    for labels in ([7, 8, 9], [9, 8, 7], [7, 9, 0]):
        found, _ = matcher.match(boxes, torch.tensor([labels]), official_anchors(torch.float32))
        assert found[0].nonzero()[:, 0].tolist() == [1025]
        assert found[0, 1025] == [label for label in labels if label][-1]


def test_the_denominator_is_larger_by_1e_5():
    """Of two anchors exactly on an object of that area the first is claimed, the second halved."""
    side = 1e-5**0.5
    anchors = torch.tensor([[0.5, 0.5, side, side]] * 2, dtype=torch.float64)
    boxes = box_convert(anchors[None, :1], "cxcywh", "xyxy")
    for threshold, expected in ((0.499, [3, 3]), (0.501, [3, 0])):
        matcher = SSDMatcher(SSDMatcherOptions(iou_threshold=threshold))
        assert matcher.match(boxes, torch.tensor([[3]]), anchors)[0].tolist() == [expected]


@pytest.mark.parametrize("box", [[0.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.6]])
@pytest.mark.parametrize("label", [0, 4])
def test_regressions_are_finite_whatever_the_rows_hold(box, label):
    matcher = SSDMatcher(SSDMatcherOptions())
    found, regressions = matcher.match(
        torch.tensor([[box]]), torch.tensor([[label]]), official_anchors(torch.float32)
    )
    assert regressions.isfinite().all() and regressions.dtype == torch.float32
    assert int((found > 0).sum()) == (1 if label else 0)


def test_padding_matches_nothing_even_where_a_box_stands_in_it():
    matcher = SSDMatcher(SSDMatcherOptions())
    anchors = official_anchors()
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.6], [0.12, 0.1, 0.6, 0.62]]], dtype=torch.float64)
    alone = matcher.match(boxes[:, 1:], torch.tensor([[3]]), anchors)
    padded = matcher.match(boxes, torch.tensor([[0, 3]]), anchors)
    assert all(torch.equal(a, b) for a, b in zip(alone, padded, strict=True))


def test_matching_does_not_look_at_values():
    """On the meta device there are none, so nothing that a GPU would have to wait for."""
    with torch.device("meta"):
        labels, regressions = SSDMatcher(SSDMatcherOptions()).match(
            torch.rand(5, 9, 4), torch.ones(5, 9, dtype=torch.int64), torch.rand(3232, 4)
        )
    assert labels.shape == (5, 3232) and regressions.shape == (5, 3232, 4)


@pytest.mark.parametrize("given", [{"center_variance": 0.0}, {"iou_threshold": 1.5}])
def test_matchers_that_cannot_be(given):
    with pytest.raises(ValidationError, match="Input should be"):
        SSDMatcherOptions(**given)


# --- selection -----------------------------------------------------------------------------------


def plain_overlap(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (first, second))
    return width * height / (areas - width * height)


def plain_select(scores, boxes, limits):
    """Section 5 of the specification for one image: (score, anchor, label), the surest first."""
    found = []
    for label in range(1, len(scores[0])):
        ranked = [(-row[label], anchor) for anchor, row in enumerate(scores)]
        candidates = sorted(pair for pair in ranked if -pair[0] > limits.threshold)
        kept = []
        for score, anchor in candidates[: limits.per_class]:
            if all(plain_overlap(boxes[anchor], boxes[k]) <= limits.overlap for _, k in kept):
                kept.append((score, anchor))
        found += [(score, anchor, label) for score, anchor in kept]
    return sorted(found)[: limits.per_image]


def predictions(generator, images, anchors, classes, *, distinct=None, digits=16):
    """Probabilities and boxes; `distinct` boxes only, scores of so many `digits` (so with ties)."""
    scores = torch.randn(images, anchors, classes, generator=generator, dtype=torch.float64)
    scores = (2 * scores).softmax(dim=-1).round(decimals=digits)
    corners = torch.rand(images, distinct or anchors, 4, generator=generator, dtype=torch.float64)
    boxes = torch.cat((corners[..., :2], corners[..., :2] + corners[..., 2:] / 2 + 0.05), dim=-1)
    owners = torch.arange(anchors) % boxes.shape[1]
    return scores, boxes[:, owners]


@given(
    st.integers(0, 10**6),
    st.sampled_from([Limits(0.1, 3, 4, 0.3), Limits(0.05, 50, 6, 0.5), Limits(0.5, 9, 1, 0.0)]),
    st.sampled_from([None, 2, 5]),
    st.sampled_from([16, 1]),
)
@settings(max_examples=60)
def test_selection_agrees_with_a_plain_loop(seed, limits, distinct, digits):
    """Ties, classes with more than `per_class` candidates, images where a first look finds too few."""
    generator = torch.Generator().manual_seed(seed)
    scores, boxes = predictions(generator, 3, 50, 4, distinct=distinct, digits=digits)
    scores[2, :, 1:] *= 0.1  # hardly anything is found here
    for image, found in enumerate(select(scores, boxes, limits)):
        expected = plain_select(scores[image].tolist(), boxes[image].tolist(), limits)
        assert found.labels.tolist() == [label for _, _, label in expected]
        assert found.scores.tolist() == [-score for score, _, _ in expected]
        assert found.boxes.tolist() == [boxes[image, anchor].tolist() for _, anchor, _ in expected]


def test_selection_does_not_depend_on_the_batch():
    generator = torch.Generator().manual_seed(3)
    scores, boxes = predictions(generator, 4, 600, 7, distinct=40)
    limits = Limits(0.02, 30, 20, 0.4)
    together = select(scores, boxes, limits)
    for image in range(4):
        (alone,) = select(scores[image : image + 1], boxes[image : image + 1], limits)
        assert all(torch.equal(a, b) for a, b in zip(alone, together[image], strict=True))


@pytest.mark.parametrize("spread", [0.5, 6.0])
def test_selection_agrees_with_torchvision(spread):
    """Boxes within the image, because torchvision clips; no two scores are equal."""
    limits = Limits(0.01, 30, 50, 0.45)
    peer = peer_ssd.SSD(
        nn.Identity(),
        DefaultBoxGenerator([[2]]),
        (320, 320),
        9,
        head=nn.Identity(),
        score_thresh=limits.threshold,
        nms_thresh=limits.overlap,
        topk_candidates=limits.per_class,
        detections_per_img=limits.per_image,
    )
    generator = torch.Generator().manual_seed(1)
    anchors = official_anchors()[:2400:5]
    anchors = anchors[(anchors[:, :2] - 0.5).abs().amax(dim=1) < 0.35]
    logits = torch.randn(2, len(anchors), 9, generator=generator, dtype=torch.float64) * spread
    offsets = torch.randn(2, len(anchors), 4, generator=generator, dtype=torch.float64) * 0.3
    boxes = SSDMatcher(SSDMatcherOptions()).decode(offsets, anchors)
    corners = box_convert(anchors, "cxcywh", "xyxy")
    expected = peer.postprocess_detections(
        {"bbox_regression": offsets, "cls_logits": logits}, [corners] * 2, [(1, 1)] * 2
    )
    found = select(logits.softmax(dim=-1), boxes, limits)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.scores) == 50
        assert ours.labels.tolist() == theirs["labels"].tolist()
        torch.testing.assert_close(ours.scores, theirs["scores"])
        torch.testing.assert_close(ours.boxes, theirs["boxes"])


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 100.0, 1001.0, 2001.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_classes_do_not_suppress_each_other_wherever_boxes_are(shift, sign):
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 3])
    boxes[0, 1] += sign * shift
    scores = torch.tensor([[[0.2, 0.8, 0.0], [0.3, 0.0, 0.7], [0.4, 0.6, 0.0]]])
    (found,) = select(scores, boxes, Limits(0.1, 10, 10, 0.5))
    assert found.labels.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])


@pytest.mark.parametrize("end", [1e30, math.inf])
def test_boxes_without_end_are_compared_like_others(end):
    """One of class 1 goes; those of class 2 stay, for the other one lies elsewhere."""
    boxes = torch.tensor([[[-end, -end, end, end]] * 3 + [[0.1, 0.1, 0.3, 0.3]]])
    scores = torch.tensor([[[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.3, 0.0, 0.7], [0.4, 0.0, 0.6]]])
    (found,) = select(scores, boxes, Limits(0.1, 10, 10, 0.5))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert torch.equal(found.boxes[0], boxes[0, 0])


@pytest.mark.parametrize("broken", [1, 30, 36])
def test_anchors_without_a_score_take_no_others_with_them(broken):
    """36 anchors apart from each other, so that nothing is suppressed."""
    corners = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)) / 6
    boxes = torch.cat((corners, corners + 0.1), dim=1)[None]
    scores = torch.full((1, 36, 2), 0.5)
    scores[0, :broken] = math.nan
    (found,) = select(scores, boxes, Limits(0.1, 50, 4, 0.5))
    assert torch.equal(found.boxes, boxes[0, broken : broken + 4])


def test_nothing_found():
    scores = torch.tensor([[[0.995, 0.005]] * 6])
    found = select(scores.expand(2, -1, -1), torch.rand(2, 6, 4), Limits(0.01, 5, 5, 0.5))
    assert [[tuple(part.shape) for part in one] for one in found] == [[(0, 4), (0,), (0,)]] * 2
    assert found[0].labels.dtype == torch.int64


def test_the_threshold_itself_is_left_out():
    scores = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.75, 0.25], [0.0, 0.5, 0.5]]])
    corners = torch.tensor([0.0, 0.3, 0.6])[:, None].expand(-1, 2)
    boxes = torch.cat((corners, corners + 0.1), dim=1)[None]
    (found,) = select(scores, boxes, Limits(0.25, 5, 5, 0.5))
    assert found.scores.tolist() == [0.75, 0.5, 0.5] and found.labels.tolist() == [1, 1, 2]
