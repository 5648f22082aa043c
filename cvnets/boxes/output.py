"""What a detector gives: for the loss, and in the end."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DetectionOutput(NamedTuple):
    """Before any decoding, for all anchors.

    `scores` [B, N, C] logits, class 0 is the background; `boxes` [B, N, 4] regressions relative
    to the anchors; `anchors` [N, 4] centre form (cx, cy, w, h), in shares of the image.
    """

    scores: Tensor
    boxes: Tensor
    anchors: Tensor


class Detections(NamedTuple):
    """The objects found in one image, the surest first.

    `boxes` [n, 4] corner form (x1, y1, x2, y2), in shares of the image; `scores` [n] in (0, 1];
    `labels` int64 [n], from 1 on.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
