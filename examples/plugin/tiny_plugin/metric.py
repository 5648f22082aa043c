"""A metric: counts on the device, and merges what several processes have counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from pydantic import Field
from torch import Tensor

from config.options import Options
from engine.kinds import METRICS
from engine.metrics.metric import Metric, Observation


class TinyRecallOptions(Options):
    """`stats.tiny_recall`."""

    at_least: int = Field(1, ge=1, description="images that a class needs in order to count")


@METRICS.register("tiny_recall", options=TinyRecallOptions)
class TinyRecall(Metric):
    """Percent of right answers, averaged over classes instead of images; `.worst` is the lowest."""

    larger_is_better = True

    def __init__(self, options: TinyRecallOptions):
        self.at_least = options.at_least
        self.counts: Tensor | None = None  # int64 [2, C]: right answers, images

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        """Count a micro-batch: logits [B, C], labels [B]; nothing waits for the device."""
        classes = torch.arange(seen.outputs.shape[1], device=seen.outputs.device)
        labels = seen.targets[:, None] == classes
        answers = seen.outputs.argmax(1)[:, None] == classes
        counts = torch.stack([(labels & answers).sum(0), labels.sum(0)])
        self.counts = counts if self.counts is None else self.counts + counts

    def state(self) -> list[list[int]]:
        """What was counted, as plain numbers that can be saved and added up."""
        return [] if self.counts is None else self.counts.tolist()

    def result(self, states: Sequence[list[list[int]]]) -> dict[str, float]:
        """The value from the states of all processes."""
        counted = torch.tensor([state for state in states if state]).sum(0).T.tolist()
        recalls = [100.0 * right / images for right, images in counted if images >= self.at_least]
        return {"": fmean(recalls), "worst": min(recalls)} if recalls else {"": math.nan}
