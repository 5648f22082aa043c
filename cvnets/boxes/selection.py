"""From the scores and boxes of all anchors to the objects of an image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cvnets.boxes.output import Detections

_GROWTH = 4  # of the anchors that the next attempt looks at
_REACH = 1000.0  # images; boxes that reach further are cut off there when they are compared


class Limits(NamedTuple):
    """What is left out: scores up to `threshold`; of a class what is not among its `per_class` best;
    of two boxes of a class that overlap more than `overlap` the worse; all behind `per_image`."""

    threshold: float
    per_class: int
    per_image: int
    overlap: float


def select(scores: Tensor, boxes: Tensor, limits: Limits) -> list[Detections]:
    """The objects of each image, the surest first.

    `scores` [B, N, C] probabilities, class 0 is the background; `boxes` [B, N, 4] corner form, in
    shares of the image. Greedy suppression within each class; equal scores go by the number of
    their anchor, then of their class. What is found in an image does not depend on the others.
    Anchors with a score that is no number are left out.
    """
    if boxes.device.type == "mps":  # which has no float64, and `_suppress` needs it
        scores, boxes = scores.cpu(), boxes.cpu()
    return _select(scores, boxes, limits, 2 * limits.per_image)


def _select(scores: Tensor, boxes: Tensor, limits: Limits, reach: int) -> list[Detections]:
    """First among the candidates that are better than all but the `reach` best anchors; for images
    where these do not yield enough, among more.

    Suppression goes from the best to the worst, so what it keeps of the best candidates is what it
    keeps of all.
    """
    best = scores[..., 1:].amax(dim=-1).nan_to_num(nan=-1.0)
    bounds = torch.full_like(best[:, 0], limits.threshold)
    if reach < best.shape[1]:
        bounds = bounds.maximum(best.topk(reach + 1, dim=1).values[:, -1])
    found = _suppress(*_candidates(scores, best, bounds, limits.per_class), boxes, limits)
    cut = (bounds > limits.threshold).tolist()
    short = [
        image
        for image, objects in enumerate(found)
        if cut[image] and len(objects.scores) < limits.per_image
    ]
    if short:
        again = _select(scores[short], boxes[short], limits, _GROWTH * reach)
        for image, objects in zip(short, again, strict=True):
            found[image] = objects
    return found


def _candidates(
    scores: Tensor, best: Tensor, bounds: Tensor, per_class: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, anchor, label and score of the `per_class` best of each class above an image's bound.

    Sorted by image, and in it from the best to the worst.
    """
    image, anchor = (best > bounds[:, None]).nonzero(as_tuple=True)
    rows = scores[image, anchor]
    good = rows > bounds[image, None]
    good[:, 0] = False
    row, label = good.nonzero(as_tuple=True)
    image, anchor, score = image[row], anchor[row], rows[row, label]

    order = score.argsort(stable=True, descending=True)
    order = order[image[order].argsort(stable=True)]
    image, anchor, label, score = image[order], anchor[order], label[order], score[order]

    group = image * scores.shape[2] + label
    order = group.argsort(stable=True)
    grouped = group[order]
    places = torch.arange(len(group), device=group.device)
    rank = torch.empty_like(group)
    rank[order] = places - torch.searchsorted(grouped, grouped)
    kept = rank < per_class
    return image[kept], anchor[kept], label[kept], score[kept]


def _suppress(
    image: Tensor, anchor: Tensor, label: Tensor, score: Tensor, boxes: Tensor, limits: Limits
) -> list[Detections]:
    """Greedy suppression within each class of each image."""
    from torchvision.ops import nms  # here: `import cvnets` stays light

    corners = boxes[image, anchor]
    # Classes are moved apart. Float64 keeps the overlaps exact meanwhile.
    apart = corners.double().clamp(-_REACH, _REACH) + label[:, None] * (2 * _REACH + 1)
    ranks = torch.arange(
        len(label), 0, -1, device=label.device, dtype=apart.dtype
    )  # none are equal
    counts = image.bincount(minlength=len(boxes)).tolist()
    found = []
    parts = (torch.split(part, counts) for part in (apart, ranks, corners, score, label))
    for one_apart, one_ranks, one_corners, one_score, one_label in zip(*parts, strict=True):
        kept = nms(one_apart, one_ranks, limits.overlap)[: limits.per_image]
        found.append(Detections(one_corners[kept], one_score[kept], one_label[kept]))
    return found
