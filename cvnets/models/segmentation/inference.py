"""From logits to classes, and segmentation by several passes over an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cvnets.models.dense import SegmentationOutput, Segmentor, enlarged

_ELEMENTS = 2**24  # of enlarged logits that are held at a time


class Passes(NamedTuple):
    """How often the network looks at an image: at each of `scales` (of its sides), mirrored as well
    with `flip`, and in windows of `window` pixels (None: all of it at once), `stride` apart."""

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: int | None = None
    stride: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether this is one pass over the whole image as it is."""
        return self == Passes()


def classes_of(low_res: Tensor, size: tuple[int, int]) -> Tensor:
    """The likeliest class of each pixel: logits [B, C, h, w] -> uint8 [B, H, W] of `size`.

    Of equal ones the first. Classes are enlarged a few at a time: all 150 of ADE20K on a photograph
    would take gigabytes.
    """
    images, classes = low_res.shape[:2]
    at_a_time = max(1, _ELEMENTS // (images * size[0] * size[1]))
    best, found = enlarged(low_res[:, :at_a_time], size).max(dim=1)
    for start in range(at_a_time, classes, at_a_time):
        value, index = enlarged(low_res[:, start : start + at_a_time], size).max(dim=1)
        found = torch.where(value > best, index + start, found)
        best = best.maximum(value)
    return found.to(torch.uint8)


def segment(model: Segmentor, images: Tensor, passes: Passes) -> SegmentationOutput:
    """Images [B, 3, H, W] -> the logarithm of the mean probabilities of all passes, at their size."""
    size = (images.shape[2], images.shape[3])
    if passes.is_plain:
        output: SegmentationOutput = model(images)
        return output
    total = torch.zeros(())
    for scale in passes.scales:
        sides = [max(1, round(side * scale)) for side in size]
        resized = images
        if sides != list(size):
            resized = F.interpolate(images, sides, mode="bilinear", antialias=True)
        for mirrored in (False, True)[: 1 + passes.flip]:
            view = resized.flip(3) if mirrored else resized
            found = _probabilities(model, view, passes)
            found = found.flip(3) if mirrored else found
            if sides != list(size):
                found = F.interpolate(found, size, mode="bilinear", align_corners=True)
            total = found if total.ndim == 0 else total.add_(found)
    count = len(passes.scales) * (1 + passes.flip)
    mean = (total / count).clamp_min(torch.finfo(total.dtype).tiny)  # enlarging -inf gives nan
    return SegmentationOutput(mean.log(), None, size)


def _probabilities(model: Segmentor, images: Tensor, passes: Passes) -> Tensor:
    """[B, C, H, W]; where windows overlap, the mean."""
    height, width = images.shape[2:]
    window = passes.window or max(height, width)
    if height <= window and width <= window:
        return _softmax(model(images))
    stride = passes.stride or max(1, window * 2 // 3)
    total, counts = None, images.new_zeros(1, 1, height, width)
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            place = (..., slice(top, top + window), slice(left, left + window))
            found = _softmax(model(images[place]))
            if total is None:
                total = found.new_zeros(*found.shape[:2], height, width)
            total[place] += found
            counts[place] += 1
    assert total is not None
    return total / counts


def _softmax(output: SegmentationOutput) -> Tensor:
    return output.logits.softmax(dim=1)


def _starts(length: int, window: int, stride: int) -> Sequence[int]:
    """Where windows begin: `stride` apart, the last one at the end."""
    last = max(0, length - window)
    return [*range(0, last, stride), last]
