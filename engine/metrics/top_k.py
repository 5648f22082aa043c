"""Top-k accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from config.registry import NoOptions
from engine.kinds import METRICS
from engine.metrics.metric import Counter, Observation, labels_of


class TopK(Counter):
    """Percent of images whose class is among the `k` largest logits; counts are integers.

    `outputs` [B, C] logits, or `predictions`, where the task has ruled out classes; `targets` int64
    [B], or soft float [B, C], whose argmax counts. Images with a negative label, or of no class at
    all, are left out. With fewer than k classes, all of them count.
    """

    task = "classification"
    parts = ("",)
    larger_is_better = True

    def __init__(self, k: int):
        super().__init__(2)  # right, all
        self.k = k

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        labels = labels_of(seen.targets)
        logits = seen.outputs if seen.predictions is None else seen.predictions
        best = logits.topk(min(self.k, logits.shape[1]), dim=1).indices
        right = (best == labels[:, None]).any(1).sum()
        self.add(torch.stack([right, (labels >= 0).sum()]))

    def result(self, states: Sequence[list[int]]) -> float:
        right, total = (sum(column) for column in zip(*states, strict=True))
        return 100.0 * right / total if total else float("nan")


@METRICS.register("top1")
def top1(options: NoOptions) -> TopK:
    """Percent of images whose largest logit is the right class."""
    return TopK(1)


@METRICS.register("top5")
def top5(options: NoOptions) -> TopK:
    """Percent of images whose class is among the five largest logits."""
    return TopK(5)
