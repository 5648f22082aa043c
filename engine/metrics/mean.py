"""Means: the loss over images, the gradient norm over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from config.registry import NoOptions
from engine.kinds import METRICS
from engine.metrics.metric import Observation, Value

State = dict[str, list[list[float]]]


@METRICS.register("loss")
class MeanLoss:
    """The loss, averaged over images; the parts of a loss of several parts as well.

    Each micro-batch contributes its mean times its number of images. The products are added
    exactly (fsum), so the mean has the same bits however the micro-batches were dealt.
    """

    def __init__(self, options: NoOptions):
        self._pending: list[tuple[dict[str, Tensor], int]] = []
        self._done: State = {}

    def update(self, seen: Observation) -> None:
        values = {"": seen.loss.total.detach()}
        values |= {name: part.detach() for name, part in seen.loss.parts.items()}
        self._pending.append((values, seen.images))

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> State:
        if self._pending:
            names = list(self._pending[0][0])
            rows = torch.stack(
                [torch.stack([v[n].double() for n in names]) for v, _ in self._pending]
            )
            for row, (_, images) in zip(rows.tolist(), self._pending, strict=True):
                for name, value in zip(names, row, strict=True):
                    # a step whose loss is not finite is skipped, and so it is in the mean
                    if math.isfinite(value):
                        self._done.setdefault(name, []).append([value * images, images])
            self._pending.clear()
        return self._done

    def result(self, states: Sequence[State]) -> Value:
        means: dict[str, float] = {}
        for name in sorted({name for state in states for name in state}):
            pairs = [pair for state in states for pair in state.get(name, [])]
            means[name] = math.fsum(p[0] for p in pairs) / max(math.fsum(p[1] for p in pairs), 1)
        return (
            means.get("", math.nan)
            if set(means) <= {""}
            else {k or "total": v for k, v in means.items()}
        )


@METRICS.register("grad_norm")
class MeanGradientNorm:
    """The 2-norm of the gradient before clipping, averaged over optimizer steps."""

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
