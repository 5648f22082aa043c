"""Means: the loss over images, the gradient norm over steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from config.registry import NoOptions
from engine.kinds import METRICS
from engine.metrics.metric import Observation, Value

State = dict[str, list[list[float]]]


@METRICS.register("loss")
class MeanLoss:
    """The loss, averaged over images or what else its mean goes over; its parts as well.

    Each micro-batch contributes its mean times the number of these. The products are added exactly
    (fsum), so the mean has the same bits however the micro-batches were dealt.
    """

    larger_is_better = False

    def __init__(self, options: NoOptions):
        self._pending: list[tuple[dict[str, Tensor], Tensor, bool]] = []
        self._done: State = {}

    def update(self, seen: Observation) -> None:
        values = {"": seen.loss.total.detach()}
        values |= {name: part.detach() for name, part in seen.loss.parts.items()}
        units = seen.loss.units
        if units is None:
            units = torch.full_like(values[""], seen.images)
        self._pending.append((values, units, seen.training))

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> State:
        if self._pending:
            names = list(self._pending[0][0])
            rows = torch.stack([torch.stack([v[n] for n in names]) for v, _, _ in self._pending])
            numbers = rows.cpu().double().tolist()
            counts = torch.stack([units for _, units, _ in self._pending]).tolist()
            for row, count, (_, _, training) in zip(numbers, counts, self._pending, strict=True):
                for name, value in zip(names, row, strict=True):
                    # a training step whose loss is not finite is skipped, and so it is here
                    if math.isfinite(value) or not training:
                        pair = [value * count, count]
                        self._done.setdefault(name, []).append(pair)
            self._pending.clear()
        return self._done

    def result(self, states: Sequence[State]) -> Value:
        means: dict[str, float] = {}
        for name in sorted({name for state in states for name in state}):
            pairs = [pair for state in states for pair in state.get(name, [])]
            total = sum_exactly(pair[0] for pair in pairs)
            means[name] = total / (math.fsum(pair[1] for pair in pairs) or 1)
        return means or math.nan


def sum_exactly(values: Iterable[float]) -> float:
    """The sum, rounded once; not finite if a value is not."""
    numbers = list(values)
    return math.fsum(numbers) if all(map(math.isfinite, numbers)) else math.nan


@METRICS.register("grad_norm")
class MeanGradientNorm:
    """The 2-norm of the gradient before clipping, averaged over optimizer steps."""

    parts = ("",)

    def __init__(self, options: NoOptions):
        self._pending: list[Tensor] = []
        self._done: list[float] = []

    def update(self, seen: Observation) -> None:
        pass

    def step(self, gradient_norm: Tensor) -> None:
        self._pending.append(gradient_norm)

    def state(self) -> list[float]:
        if self._pending:
            self._done += [n for n in torch.stack(self._pending).tolist() if math.isfinite(n)]
            self._pending.clear()
        return self._done

    def result(self, states: Sequence[Any]) -> float:
        # after the reduction all ranks have the same gradient, so counting it R times is no harm
        norms = [norm for state in states for norm in state]
        return math.fsum(norms) / len(norms) if norms else math.nan
