"""Evaluation that is exact on any number of processes.

The plan fixes the batches, every process takes whole batches, metrics merge without rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from config.errors import StopRequested, UserError
from data.loader import Loader
from data.sample import Batch
from data.sampler.plan import EpochPlan
from engine.distributed import StopSignal, World, gather
from engine.metrics.metric import Metric, Observation, build_metrics, results
from engine.precision import Precision
from engine.task import Example, Keep, Report, Task

NUM_EXAMPLES = 16


@dataclass(frozen=True)
class Evaluation:
    """`metrics` name -> value over `images` unique images; `examples` and `reports` to look at."""

    metrics: dict[str, float]
    images: int
    examples: tuple[Example, ...]
    reports: tuple[Report, ...] = ()


class Evaluator:
    """Evaluates models on one split."""

    def __init__(
        self,
        *,
        task: Task,
        loss: nn.Module,
        loader: Loader,
        plan: EpochPlan,
        metrics: Sequence[str],
        precision: Precision,
        world: World,
        stop: StopSignal | None = None,
    ):
        self.task, self.loss, self.loader, self.plan = task, loss, loader, plan
        self.metric_names = tuple(metrics)
        self.precision, self.world, self.stop = precision, world, stop
        chosen = np.linspace(0, len(plan.order) - 1, NUM_EXAMPLES).astype(int)
        self._example_ids = {int(plan.order[place]) for place in chosen}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, keep: Keep | None = None) -> Evaluation:
        """Metrics of `model` over the whole split; the same value on every rank.

        `keep` gets every batch of this rank with what `Task.postprocess` says of it.
        UserError when an image was not evaluated exactly once; StopRequested, on all ranks, when one
        of them was asked to stop.
        """
        model.eval()
        self.loss.eval()
        metrics = build_metrics(self.metric_names, self.task.recipe.stats)
        examples: dict[int, Example] = {}
        with closing(self.loader.evaluation(self.plan)) as batches:
            ids = self._count(model, batches, metrics, examples, keep)
        local = {name: metric.state() for name, metric in metrics.items()}
        stopped = self.stop is not None and self.stop.requested
        records = gather((ids, local, examples, stopped), self.world)
        if any(record[3] for record in records):
            raise StopRequested("in the middle of an evaluation, which starts anew")
        self._check_ids([number for record in records for number in record[0]])
        drawn = {number: e for record in records for number, e in record[2].items()}
        states = [record[1] for record in records]
        return Evaluation(
            metrics=results(metrics, states),
            images=len(self.plan.order),
            examples=tuple(drawn[number] for number in sorted(drawn)),
            reports=self.task.reports(metrics, states) if self.world.is_main else (),
        )

    def _count(
        self,
        model: nn.Module,
        batches: Iterator[Batch],
        metrics: dict[str, Metric],
        examples: dict[int, Example],
        keep: Keep | None,
    ) -> list[int]:
        """Run the model over this rank's batches; the indices of the images it has seen."""
        ids: list[int] = []
        for batch in batches:
            if self.stop is not None and self.stop.requested:
                break
            batch = batch.to(self.world.device)
            images, targets = self.task.prepare(batch, training=False)
            with self.precision.autocast():
                outputs = self.task.infer(model, images)
                loss = self.loss(images, outputs, targets)
            predictions = self.task.postprocess(model, outputs, batch)
            seen = Observation(outputs, targets, loss, len(batch), predictions=predictions)
            for metric in metrics.values():
                metric.update(seen)
            if keep is not None:
                keep(batch, predictions)
            ids += batch.ids
            for place in range(len(batch)):
                if batch.ids[place] in self._example_ids:
                    example = self.task.example(batch, predictions, place)
                    examples |= {batch.ids[place]: example} if example else {}
        return ids

    def _check_ids(self, ids: list[int]) -> None:
        expected = sorted(int(number) for number in self.plan.order)
        if sorted(ids) != expected:
            raise UserError(
                f"evaluated {len(set(ids))} unique images in {len(ids)}, but the split has "
                f"{len(expected)}: the metrics would be wrong, nothing is reported"
            )
