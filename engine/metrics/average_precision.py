"""Average precision of several labels per image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from config.registry import NoOptions
from engine.kinds import METRICS
from engine.metrics.metric import Observation


@METRICS.register("average_precision")
class AveragePrecision:
    """Mean over the classes of average precision, in percent; classes without an image are left out.

    `predictions` (in training `outputs`): logits [B, C]; `targets`: labels as float [B, C], where
    0.5 and more means yes and a negative value leaves this entry out, or int64 [B], one label per
    image, whose images are ranked by their softmax. Average precision is the sum over the distinct
    scores, from the highest, of precision times gained recall, without interpolation (as
    scikit-learn's `average_precision_score`).
    """

    task = "classification"
    larger_is_better = True

    def __init__(self, options: NoOptions):
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._counted: list[Tensor] = []  # scores and labels, float64 [2, N, C]

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        scores = (seen.outputs if seen.predictions is None else seen.predictions).double()
        labels = seen.targets
        if not labels.is_floating_point():
            scores, known = scores.softmax(1), labels[:, None] >= 0
            hot = functional.one_hot(labels.clamp_min(0), scores.shape[1])
            labels = torch.where(known, hot, -1)
        self._pending.append((scores, labels))

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> list[Tensor]:
        """Tensors on the CPU: every score is needed, and plain numbers would be ten times as large."""
        if self._pending:
            scores = torch.cat([scores for scores, _ in self._pending])
            labels = torch.cat([labels.double() for _, labels in self._pending])
            self._counted = [torch.cat([*self._counted, torch.stack([scores, labels]).cpu()], 1)]
            self._pending.clear()
        return self._counted

    def result(self, states: Sequence[list[Tensor]]) -> float:
        parts = [part for state in states for part in state]
        if not parts:
            return math.nan
        scores, labels = torch.cat(parts, dim=1).numpy()
        found = [_average_precision(s, y) for s, y in zip(scores.T, labels.T, strict=True)]
        numbers = [value for value in found if value is not None]
        return 100 * math.fsum(numbers) / len(numbers) if numbers else math.nan


def _average_precision(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]
) -> float | None:
    """Of one class, 0 .. 1; None without a positive. Equal scores are one step, so order is no matter."""
    scores, labels = scores[labels >= 0], labels[labels >= 0]
    order = np.argsort(-scores, kind="stable")
    positive = np.cumsum(labels[order] >= 0.5)
    if not positive.size or positive[-1] == 0:
        return None
    last = np.append(np.diff(scores[order]) != 0, True)  # of each distinct score
    hits, taken = positive[last], np.flatnonzero(last) + 1
    gained = np.diff(hits, prepend=0)
    return math.fsum((gained * hits / taken).tolist()) / int(positive[-1])
