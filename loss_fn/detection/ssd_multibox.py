"""The loss of SSD: classes and offsets of the anchors that answer for an object, and hard negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from config.options import Options
from cvnets.boxes.output import DetectionOutput
from loss_fn.kinds import DETECTION_LOSSES
from loss_fn.output import LossOutput


class Matcher(Protocol):
    """What the loss asks of a matcher."""

    def match(self, boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, M, 4], labels [B, M], anchors [N, 4] -> labels [B, N], regressions [B, N, 4]."""


class SSDMultiboxOptions(Options):
    """Options of the multibox loss."""

    neg_pos_ratio: int = Field(
        3, ge=0, description="background anchors that count, for each anchor with an object"
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="share of each target spread over all classes, in training only",
    )
    min_negatives: int = Field(
        0,
        ge=0,
        description="background anchors that count in each image at least, also in one without "
        "objects; 0 (official): such an image teaches nothing",
    )
    max_monitor_iter: int = Field(
        -1, description="iterations in which offsets and classes are balanced; only -1 is possible"
    )
    update_wt_freq: int = Field(
        200, ge=1, description="iterations between two balancings; without any it has no effect"
    )

    @model_validator(mode="after")
    def _possible(self) -> SSDMultiboxOptions:
        if self.max_monitor_iter != -1:
            raise ValueError(
                "max_monitor_iter: only -1 is possible: with balancing, the loss of a batch would "
                "depend on all batches before it, and no run could be resumed exactly"
            )
        return self


@DETECTION_LOSSES.register("ssd_multibox_loss", options=SSDMultiboxOptions)
class SSDMultiboxLoss(nn.Module):
    """Cross entropy and smooth L1, summed, over the number of anchors that answer for an object.

    Single Shot MultiBox Detector (Liu et al., ECCV 2016), section 2.2. Of the background anchors of
    an image those count that the network takes most for objects. Nothing leaves the device, and a
    micro-batch without any object is no special case: its divisor is 1. With `min_negatives`, a
    micro-batch with few objects is divided by as many anchors as its background stands for.
    """

    def __init__(self, options: SSDMultiboxOptions, *, matcher: Matcher):
        super().__init__()
        self.options = options
        self.matcher = matcher

    def forward(
        self, images: Tensor, outputs: DetectionOutput, targets: Mapping[str, Any]
    ) -> LossOutput:
        """`targets`: `boxes` [B, M, 4] corner form in shares of the image, `labels` [B, M], 0 where
        there is no object. The parts are `reg_loss` and `cls_loss`; `total` is their sum."""
        labels, regressions = self.matcher.match(
            targets["boxes"], targets["labels"], outputs.anchors
        )
        positive = labels > 0
        units = self._units(positive)
        offsets = F.smooth_l1_loss(_precise(outputs.boxes), regressions, reduction="none")
        reg_loss = torch.where(positive[..., None], offsets, 0.0).sum() / units.clamp_min(1)
        cls_loss = self._of_classes(_precise(outputs.scores), labels, positive) / units.clamp_min(1)
        parts = {"reg_loss": reg_loss.detach(), "cls_loss": cls_loss.detach()}
        return LossOutput(reg_loss + cls_loss, parts, units)

    def _units(self, positive: Tensor) -> Tensor:
        """Anchors with an object, or those that go with the background anchors that count."""
        count = positive.sum()
        if self.options.min_negatives == 0:
            return count
        negatives = self._wanted(positive).sum()
        return count.maximum(negatives // max(self.options.neg_pos_ratio, 1))

    def _of_classes(self, scores: Tensor, labels: Tensor, positive: Tensor) -> Tensor:
        """Sum of the cross entropy over the anchors that count."""
        smoothing = self.options.label_smoothing if self.training else 0.0
        losses, log_background = _CrossEntropy.apply(scores, labels, smoothing)
        counts = positive | self._hard_negatives(log_background, positive)
        return torch.where(counts, losses, 0.0).sum()

    def _hard_negatives(self, log_background: Tensor, positive: Tensor) -> Tensor:
        """The background anchors [B, N] with the smallest log-probabilities of the background.

        Of equal ones the first count. Where there are too few, anchors with objects are among them.
        """
        order = log_background.masked_fill(positive, torch.inf).argsort(dim=1, stable=True)
        hardest = torch.arange(order.shape[1], device=order.device) < self._wanted(positive)
        return torch.zeros_like(positive).scatter_(1, order, hardest)

    def _wanted(self, positive: Tensor) -> Tensor:
        """How many background anchors of each image should count, [B, 1]."""
        wanted = positive.sum(dim=1, keepdim=True) * self.options.neg_pos_ratio
        return wanted.clamp_min(self.options.min_negatives)


class _CrossEntropy(torch.autograd.Function):
    """Scores [B, N, C], labels [B, N], smoothing -> losses and log-probabilities of class 0, [B, N].

    Torch's own cross entropy does not give the latter, and one made of its parts goes twice as
    often over tensors of the size of the scores, which is what this loss takes its time for.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, labels: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        log_probabilities = scores.log_softmax(dim=-1)
        losses = -log_probabilities.gather(-1, labels[..., None]).squeeze(-1)
        if smoothing:
            losses.lerp_(-log_probabilities.mean(dim=-1), smoothing)
        background = log_probabilities[..., 0].clone()
        ctx.save_for_backward(log_probabilities, labels)
        ctx.smoothing = smoothing
        ctx.mark_non_differentiable(background)
        return losses, background

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor, _: Any) -> tuple[Tensor, None, None]:
        """Softmax less the smoothed target."""
        log_probabilities, labels = ctx.saved_tensors
        result = log_probabilities.exp()
        if ctx.smoothing:
            result.sub_(ctx.smoothing / result.shape[-1])
        hit = result.new_full((), ctx.smoothing - 1.0).expand(*labels.shape, 1)
        result.scatter_add_(-1, labels[..., None], hit).mul_(gradients[..., None])
        return result, None, None


def _precise(values: Tensor) -> Tensor:
    """At least float32, whatever the network computes in."""
    return values if values.dtype == torch.float64 else values.float()
