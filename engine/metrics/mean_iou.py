"""Mean intersection over union of semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from config.errors import UserError
from config.options import Options
from cvnets.models.dense import SegmentationOutput
from cvnets.models.segmentation.inference import classes_of
from engine.kinds import METRICS
from engine.metrics.iou_report import Confusion, IouReport
from engine.metrics.metric import Observation, Value


class MeanIouOptions(Options):
    """`stats.iou`: one confusion matrix over all pixels of a split."""

    absent_classes: Literal["exclude", "zero"] = Field(
        "exclude",
        description="classes that occur neither in the masks nor in the predictions: left out of "
        "the mean and listed, or counted as 0 (as the official validation does)",
    )


@METRICS.register("iou", key="iou", options=MeanIouOptions)
class MeanIou:
    """Mean over the classes of intersection over union, in percent, from one integer matrix.

    In evaluation each image counts at its own size: `predictions` and `targets["truth"]` are uint8
    [H, W], one per image; in training the logits at the size of `targets["mask"]`. Pixels of the
    value 255 do not count.
    """

    task = "segmentation"
    parts = ("", "pixel_accuracy", "class_accuracy")
    larger_is_better = True

    def __init__(self, options: MeanIouOptions):
        self.absent_classes = options.absent_classes
        self._pending: Tensor | None = None
        self._counted: npt.NDArray[np.int64] | None = None

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        if not isinstance(seen.outputs, SegmentationOutput) or not isinstance(
            seen.targets, Mapping
        ):
            raise UserError(
                "stats: iou measures segmentation, and this task makes none; take it out"
            )
        classes = seen.outputs.low_res.shape[1]
        if seen.predictions is None:
            mask = seen.targets["mask"]
            size = (mask.shape[1], mask.shape[2])
            pairs = [(classes_of(seen.outputs.low_res, size), mask)]
        else:
            pairs = list(zip(seen.predictions, seen.targets["truth"], strict=True))
        for predicted, truth in pairs:
            counts = confusion(predicted, truth, classes)
            self._pending = counts if self._pending is None else self._pending.add_(counts)

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> list[list[int]]:
        if self._pending is not None:
            counts = self._pending.cpu().numpy()
            self._counted = counts if self._counted is None else self._counted + counts
            self._pending = None
        return [] if self._counted is None else self._counted.tolist()

    def result(self, states: Sequence[list[list[int]]]) -> Value:
        return self._confusion(states).figures(self.absent_classes == "zero")

    def report(self, states: Sequence[list[list[int]]], names: Sequence[str]) -> IouReport:
        """Tables and a picture of the same matrix."""
        return IouReport(self._confusion(states), tuple(names), self.absent_classes == "zero")

    def _confusion(self, states: Sequence[list[list[int]]]) -> Confusion:
        matrices = [np.array(state, np.int64) for state in states if state]
        return Confusion(np.sum(matrices, axis=0) if matrices else np.zeros((0, 0), np.int64))


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """How many pixels of each class (rows) were taken for which (columns): int64 [C, C].

    `predicted`, `truth`: uint8 of the same shape; where the truth is no class, nothing counts.
    """
    truth = truth.to(predicted.device).long()
    pairs = torch.where(truth < classes, truth * classes + predicted, classes * classes)
    return pairs.flatten().bincount(minlength=classes**2 + 1)[:-1].view(classes, classes)
