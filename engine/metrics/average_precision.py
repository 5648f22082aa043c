"""Average precision of several labels per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from config.registry import NoOptions
from engine.kinds import METRICS
from engine.metrics.metric import Observation

CPU = torch.device("cpu")
Batch = tuple[Tensor, Tensor]  # logits [B, C] and targets, as they came


@METRICS.register("average_precision")
class AveragePrecision:
    """Mean over the classes of average precision, in percent; classes without an image are left out.

    `predictions` (in training `outputs`): logits [B, C]; `targets`: labels as float [B, C], where
    0.5 and more means yes and a negative value leaves this entry out, or int64 [B], one label per
    image, whose images are ranked by their softmax. Average precision is the sum over the distinct
    scores, from the highest, of precision times gained recall, without interpolation (as
    scikit-learn's `average_precision_score`). It keeps all logits, on the CPU, and so it measures
    evaluations only: in training every saved state would hold them.
    """

    task = "classification"
    parts = ("",)
    larger_is_better = True
    keeps_scores = True

    def __init__(self, options: NoOptions):
        self._counted: list[Batch] = []

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        scores = seen.outputs if seen.predictions is None else seen.predictions
        # copies: a view would keep the whole batch, and memory that is shared with a worker
        self._counted.append((scores.to(CPU, copy=True), seen.targets.to(CPU, copy=True)))

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> list[Batch]:
        """Tensors on the CPU: every score is needed, and plain numbers would be ten times as large."""
        return list(self._counted)

    def result(self, states: Sequence[list[Batch]]) -> float:
        batches = [batch for state in states for batch in state]
        if not batches:
            return math.nan
        scores = torch.cat([_scores(*batch) for batch in batches]).numpy()
        labels = torch.cat([labels for _, labels in batches]).numpy()
        found = [_average_precision(s, _of_class(labels, c)) for c, s in enumerate(scores.T)]
        numbers = [value for value in found if value is not None]
        return 100 * math.fsum(numbers) / len(numbers) if numbers else math.nan


def _scores(logits: Tensor, labels: Tensor) -> Tensor:
    """What images are ranked by, float64 [B, C]."""
    return logits.double() if labels.is_floating_point() else logits.double().softmax(1)


def _of_class(labels: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """Of each image: 0.5 and more is yes, a negative number leaves it out."""
    return labels[:, number] if labels.ndim == 2 else np.where(labels < 0, -1, labels == number)


def _average_precision(scores: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> float | None:
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
