"""Which anchor answers for which object."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from config.options import Options
from cvnets.boxes.coding import Variances, decode, encode, to_centers, to_corners
from cvnets.kinds import MATCHERS

_NOTHING = -1.0  # overlap with a row of padding: below that with any object
_EPSILON = 1e-5  # in the denominator of the overlap
# Overlaps computed at a time: on a CPU as many as fit its cache, elsewhere as many as are no burden.
_AT_A_TIME = {"cpu": 2**17}
_AT_A_TIME_ELSEWHERE = 2**24


class SSDMatcherOptions(Options):
    """Matching by overlap, and the coding of boxes."""

    center_variance: float = Field(
        0.1, gt=0.0, description="offsets of centres, in sides of the anchor, are divided by this"
    )
    size_variance: float = Field(
        0.2, gt=0.0, description="logarithms of sides relative to the anchor are divided by this"
    )
    iou_threshold: float = Field(
        0.45,
        ge=0.0,
        le=1.0,
        description="least intersection over union at which an anchor answers for an object",
    )


@MATCHERS.register("ssd", options=SSDMatcherOptions)
class SSDMatcher:
    """Each anchor takes the object that it overlaps most; each object has at least one anchor.

    Single Shot MultiBox Detector (Liu et al., ECCV 2016), section 2.2.
    """

    def __init__(self, options: SSDMatcherOptions):
        self.iou_threshold = options.iou_threshold
        self.variances = Variances(options.center_variance, options.size_variance)

    @torch.no_grad()
    def match(self, boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """What each anchor should say of each image of a batch; nothing leaves the device.

        `boxes` [B, M, 4] corner form in shares of the image; `labels` [B, M], 0 where there is no
        object; `anchors` [N, 4] centre form. Gives labels int64 [B, N], 0 for the background, and
        regressions [B, N, 4] of the dtype of `anchors`, which for the background are finite and
        mean nothing. An object claims the anchor that it overlaps most, whatever the threshold
        says; of two that claim the same one the later gets it.
        """
        boxes = boxes.to(anchors.dtype)
        corners = to_corners(anchors)
        at_a_time = _AT_A_TIME.get(boxes.device.type, _AT_A_TIME_ELSEWHERE)
        images = max(1, at_a_time // (labels.shape[1] * len(anchors)))
        groups = zip(torch.split(boxes, images), torch.split(labels > 0, images), strict=True)
        parts = [self._owners(some, are_objects, corners) for some, are_objects in groups]
        owners, answers = (torch.cat(part) for part in zip(*parts, strict=True))
        found = torch.where(answers, labels.long().gather(1, owners), 0)
        centered = to_centers(boxes)
        owned = centered.gather(1, owners[..., None].expand(-1, -1, 4))
        return found, encode(owned, anchors, self.variances)

    def _owners(self, boxes: Tensor, are_objects: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the object of each anchor [B, N], and whether the anchor answers for it."""
        overlaps = _overlaps(boxes, anchors)
        overlaps.masked_fill_(~are_objects[..., None], _NOTHING)
        best, owners = overlaps.max(dim=1)
        claimed_anchors = overlaps.max(dim=2).indices
        numbers = torch.arange(boxes.shape[1], device=boxes.device).expand_as(claimed_anchors)
        claims = torch.where(are_objects, numbers, -1)
        # The largest number wins, so that the order of writing does not matter.
        claimed = torch.full_like(owners, -1).scatter_reduce_(1, claimed_anchors, claims, "amax")
        is_claimed = claimed >= 0
        return torch.where(is_claimed, claimed, owners), is_claimed | (best >= self.iou_threshold)

    def decode(self, regressions: Tensor, anchors: Tensor) -> Tensor:
        """Regressions [B, N, 4], anchors [N, 4] centre form -> boxes [B, N, 4] corner form.

        They may reach outside of the image.
        """
        return to_corners(decode(regressions, anchors, self.variances))


def _overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Intersection over union of boxes [B, M, 4] and anchors [N, 4], corner form: [B, M, N].

    The denominator is larger by 1e-5, as in the official code. At most three tensors of the size of
    the result are held at a time.
    """
    left, top, right, bottom = boxes[..., None].unbind(dim=2)
    # Contiguous numbers are computed many at a time.
    anchor_left, anchor_top, anchor_right, anchor_bottom = anchors.t().contiguous()
    # What an interval shares with another one is what is left of it when it is clamped to it.
    width = right.clamp(anchor_left, anchor_right).sub_(left.clamp(anchor_left, anchor_right))
    height = bottom.clamp(anchor_top, anchor_bottom).sub_(top.clamp(anchor_top, anchor_bottom))
    intersection = width.mul_(height)
    areas = (right - left) * (bottom - top)
    anchor_areas = (anchor_right - anchor_left) * (anchor_bottom - anchor_top)
    # In this order, because overlaps that are equal but for rounding decide who gets an anchor.
    union = torch.add(areas, anchor_areas, out=height).sub_(intersection).add_(_EPSILON)
    return intersection.div_(union)
