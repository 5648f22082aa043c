"""How sure a classifier is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field

from config.options import Options
from engine.kinds import METRICS
from engine.metrics.metric import Counter, Observation


class ProbabilityHistogramOptions(Options):
    """`stats.prob_hist`: the histogram of the largest probabilities."""

    num_bins: int = Field(10, ge=1, le=1000, description="bins of equal width between 0 and 1")


@METRICS.register("prob_hist", key="prob_hist", options=ProbabilityHistogramOptions)
class ProbabilityHistogram(Counter):
    """Percent of the images whose largest softmax probability lies in each bin.

    `predictions` (in training `outputs`): logits [B, C]. The values are called by the bounds of
    their bins, `prob_hist.0.90-1.00`; the last bin has its upper bound, too.
    """

    task = "classification"

    def __init__(self, options: ProbabilityHistogramOptions):
        super().__init__(options.num_bins)
        self.bins = options.num_bins
        digits = max(2, len(str(self.bins - 1)))
        bounds = [f"{place / self.bins:.{digits}f}" for place in range(self.bins + 1)]
        self.parts = tuple(f"{low}-{high}" for low, high in pairwise(bounds))

    @torch.no_grad()
    def update(self, seen: Observation) -> None:
        logits = seen.outputs if seen.predictions is None else seen.predictions
        surest = logits.float().softmax(1).amax(1)
        bins = (surest * self.bins).long().clamp(0, self.bins - 1)
        counts = torch.zeros(self.bins, dtype=torch.int64, device=bins.device)
        self.add(counts.scatter_add_(0, bins, torch.ones_like(bins)))

    def result(self, states: Sequence[list[int]]) -> dict[str, float]:
        counts = [sum(column) for column in zip(*states, strict=True)] or [0] * self.bins
        images = max(1, sum(counts))
        return {name: 100 * n / images for name, n in zip(self.parts, counts, strict=True)}
