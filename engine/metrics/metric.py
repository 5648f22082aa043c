"""What a metric is: local counting on the device, and an exact merge over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.kinds import METRICS
from engine.settings import StatsOptions
from loss_fn.output import LossOutput

Value = float | dict[str, float]
PERCENT = (
    "top",
    "coco_map",
    "iou",
    "confusion_matrix",
    "average_precision",
    "prob_hist",
)  # metrics whose names begin so


@dataclass(frozen=True)
class Observation:
    """One micro-batch: what the network gave, what was asked, the loss, and how many images.

    `predictions`: what `Task.postprocess` made of the outputs; None in training.
    """

    outputs: Any
    targets: Any
    loss: LossOutput
    images: int
    training: bool = False
    predictions: Any = None


class Metric(Protocol):
    """Counts on the device without synchronising; the result does not depend on who counted what.

    It may have `report(states, class_names) -> Report`, tables and pictures of an evaluation. It may
    say of itself, for checks before the run: `task`, the only kind that feeds it;
    `parts`, the names of its values ("" is the metric itself); `larger_is_better`; `keeps_scores`,
    if its state grows with images times classes, too large for the saved states of training.
    """

    def update(self, seen: Observation) -> None:
        """Count one micro-batch."""
        ...

    def step(self, gradient_norm: Tensor) -> None:
        """Count one optimizer step (training only)."""
        ...

    def state(self) -> Any:
        """What this rank has counted, as plain Python numbers where it may be saved; waits for the
        device."""
        ...

    def result(self, states: Sequence[Any]) -> Value:
        """The value over states of all ranks, and of ranks before a resume."""
        ...


class Counter:
    """The part of a metric that adds up integers: on the device until somebody asks."""

    def __init__(self, places: int):
        self._counts: Tensor | None = None
        self._saved = [0] * places

    def add(self, counts: Tensor) -> None:
        """Count int64 [places]."""
        self._counts = counts if self._counts is None else self._counts + counts

    def step(self, gradient_norm: Tensor) -> None:
        """An optimizer step counts nothing."""

    def state(self) -> list[int]:
        """What this rank has counted; waits for the device."""
        if self._counts is not None:
            self._saved = [a + b for a, b in zip(self._saved, self._counts.tolist(), strict=True)]
            self._counts = None
        return self._saved


def labels_of(targets: Tensor) -> Tensor:
    """int64 [B]: labels as they are; of soft ones, float [B, C], the largest, -1 if that is 0."""
    if not targets.is_floating_point():
        return targets
    most, likeliest = targets.max(1)
    return torch.where(most > 0, likeliest, -1)


def with_unit(name: str) -> str:
    """The name of a value as people see it."""
    return f"{name} (%)" if name.startswith(PERCENT) else name


def build_metrics(names: Sequence[str], stats: StatsOptions | None = None) -> dict[str, Metric]:
    """Fresh metrics by name, with their options of `stats` or else the defaults.

    `loss` is always among them.
    """
    section = StatsOptions() if stats is None else stats
    return {name: METRICS.build(section, name=name) for name in ("loss", *names)}


def results(metrics: dict[str, Metric], states: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Name -> value over the ranks' states; a metric of several values gives `name.part`.

    The part called "" stands for the metric itself.
    """
    values: dict[str, float] = {}
    for name, metric in metrics.items():
        value = metric.result([state[name] for state in states if name in state])
        if isinstance(value, dict):
            values |= {f"{name}.{part}" if part else name: v for part, v in value.items()}
        else:
            values[name] = value
    return values
