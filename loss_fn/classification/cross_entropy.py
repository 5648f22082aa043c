"""Cross entropy of logits and labels, or of logits and class probabilities (mixup)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from config.options import Options
from loss_fn.class_weights import class_weights, label_counts
from loss_fn.kinds import CLASSIFICATION_LOSSES
from loss_fn.output import LossOutput


class CrossEntropyOptions(Options):
    """Options of the cross entropy."""

    label_smoothing: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="share of each target spread over all classes, in training only",
    )
    ignore_index: int = Field(default=-1, description="label of images that do not count")
    class_weights: bool = Field(
        default=False,
        description="weight each class by 1 / ln(1.1 + its share of the micro-batch)",
    )


@CLASSIFICATION_LOSSES.register("cross_entropy", options=CrossEntropyOptions)
class CrossEntropy(nn.Module):
    """Cross entropy, averaged over the images of a micro-batch that are not ignored.

    Nothing leaves the device. A micro-batch in which all labels are ignored gives 0. With
    class weights the average is the weighted one, for labels and probabilities alike.
    """

    def __init__(self, options: CrossEntropyOptions):
        super().__init__()
        self.options = options

    def forward(self, images: Tensor, outputs: Tensor, targets: Tensor) -> LossOutput:
        """`outputs` logits [B, C]; `targets` labels [B] or probabilities [B, C]."""
        expected = outputs.shape if targets.is_floating_point() else outputs.shape[:1]
        if outputs.ndim != 2 or targets.shape != expected:
            raise ValueError(
                "cross entropy needs logits [B, C] with labels [B] or probabilities [B, C], "
                f"not {tuple(outputs.shape)} with {targets.dtype} {tuple(targets.shape)}"
            )
        logits = outputs if outputs.dtype == torch.float64 else outputs.float()
        if targets.is_floating_point():
            total, mass = self._of_probabilities(logits, targets.to(logits.dtype))
        else:
            total, mass = self._of_labels(logits, targets.long())
        return LossOutput(total / torch.where(mass > 0, mass, 1), units=mass)

    def _of_labels(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over the images that count, and the sum of their weights."""
        ignore_index = self.options.ignore_index
        weights, mass = None, (labels != ignore_index).sum()
        if self.options.class_weights:
            counts = label_counts(labels, logits.shape[1], ignore_index=ignore_index)
            weights = class_weights(counts.to(logits.dtype))
            mass = (counts * weights).sum()
        total = functional.cross_entropy(
            logits,
            labels,
            weight=weights,
            ignore_index=ignore_index,
            reduction="sum",
            label_smoothing=self._smoothing(),
        )
        return total, mass

    def _of_probabilities(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over the images, and the sum of their weights; no image is ignored."""
        weights = class_weights(targets.sum(dim=0)) if self.options.class_weights else None
        total = functional.cross_entropy(
            logits,
            targets,
            weight=weights,
            reduction="sum",
            label_smoothing=self._smoothing(),
        )
        if weights is None:
            return total, torch.full_like(total, targets.shape[0])
        return total, (targets * weights).sum()

    def _smoothing(self) -> float:
        return self.options.label_smoothing if self.training else 0.0
