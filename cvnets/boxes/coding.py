"""How a detector writes a box relative to an anchor.

Single Shot MultiBox Detector (Liu et al., ECCV 2016), section 2.2; the variances are those of its
code. Centre form is (cx, cy, w, h), corner form (x1, y1, x2, y2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Variances(NamedTuple):
    """What offsets are divided by, so that those of centres and sizes are alike in scale."""

    center: float
    size: float


def encode(boxes: Tensor, anchors: Tensor, variances: Variances) -> Tensor:
    """Boxes [..., N, 4] relative to anchors [N, 4], both in centre form and the same unit.

    Sides of boxes that are 0 count as the smallest that the dtype tells from 0 beside 1: whatever
    stands in a row of padding, the result is finite.
    """
    centers = (boxes[..., :2] - anchors[:, :2]) / (anchors[:, 2:] * variances.center)
    sides = boxes[..., 2:].clamp_min(torch.finfo(boxes.dtype).eps)
    return torch.cat((centers, (sides / anchors[:, 2:]).log() / variances.size), dim=-1)


def decode(regressions: Tensor, anchors: Tensor, variances: Variances) -> Tensor:
    """Undo `encode`: regressions [..., N, 4] and anchors [N, 4] -> boxes [..., N, 4], centre form."""
    centers = regressions[..., :2] * variances.center * anchors[:, 2:] + anchors[:, :2]
    sides = (regressions[..., 2:] * variances.size).exp() * anchors[:, 2:]
    return torch.cat((centers, sides), dim=-1)


def to_corners(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] in corner form, given in centre form."""
    half = boxes[..., 2:] / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), dim=-1)


def to_centers(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] in centre form, given in corner form."""
    start, end = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((start + end) / 2, end - start), dim=-1)
