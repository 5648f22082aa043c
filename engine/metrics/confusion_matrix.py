"""Which class was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from config.registry import NoOptions
from engine.kinds import METRICS
from engine.metrics.iou_report import FEW, Confusion, IouReport
from engine.metrics.metric import Observation, labels_of


class ConfusionReport(IouReport):
    """Of a classifier: accuracy per class for the terminal, and the files of an `IouReport`."""

    def lines(self) -> list[str]:
        """The best and worst classes."""
        accuracy = self.confusion.accuracy
        order = np.argsort(-accuracy, kind="stable")
        shown = [f"{self.names[place]} {100 * accuracy[place]:.1f}" for place in order.tolist()]
        shown = shown[: int(np.isfinite(accuracy).sum())]
        if len(shown) > FEW:
            best, worst = ", ".join(shown[:5]), ", ".join(shown[:-6:-1])
            return [f"accuracy, best: {best} | worst: {worst}"]
        return [f"accuracy: {', '.join(shown)}"]


@METRICS.register("confusion_matrix")
class ConfusionMatrix:
    """All images: right ones, their mean over the classes, mean intersection over union; percent.

    `predictions` (in training `outputs`): logits [B, C], of which the largest counts; `targets`
    int64 [B], or soft [B, C], of which the largest counts. Images with a negative label, or of no
    class at all, are left out. The matrix itself, integers, is written by the report. For
    segmentation this is the metric `iou`.
    """

    task = "classification"
    parts = ("accuracy_global", "class_accuracy", "mean_iou")
    larger_is_better = True

    def __init__(self, options: NoOptions):
        self.classes = 0
        self._pending: list[Tensor] = []  # cells as true * classes + predicted, on the device
        self._counted: Counter[int] = Counter()

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        logits = seen.outputs if seen.predictions is None else seen.predictions
        labels = labels_of(seen.targets)
        self.classes = logits.shape[1]
        cells = torch.where(labels < 0, -1, labels * self.classes + logits.argmax(1))
        self._pending.append(cells)

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> dict[str, Any]:
        if self._pending:
            self._counted.update(torch.cat(self._pending).tolist())
            self._pending.clear()
            del self._counted[-1]
        return {"classes": self.classes, "cells": sorted(map(list, self._counted.items()))}

    def result(self, states: Sequence[dict[str, Any]]) -> dict[str, float]:
        found = self._confusion(states).figures(absent_as_zero=False)
        return {
            "accuracy_global": found["pixel_accuracy"],
            "class_accuracy": found["class_accuracy"],
            "mean_iou": found[""],
        }

    def report(self, states: Sequence[dict[str, Any]], names: Sequence[str]) -> ConfusionReport:
        """The accuracy of each class, the matrix and a picture of it."""
        return ConfusionReport(self._confusion(states), tuple(names), False, unit="images")

    def _confusion(self, states: Sequence[dict[str, Any]]) -> Confusion:
        classes = max((state["classes"] for state in states), default=0)
        counts = np.zeros((classes, classes), np.int64)
        for state in states:
            for cell, count in state["cells"]:
                counts[divmod(cell, classes)] += count
        return Confusion(counts)
