"""Where training is: log points, time, what was not finite, which images were bad."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from config.errors import UserError
from data.datasets.section import ImageDataset
from data.sample import Batch
from data.sampler.plan import EpochPlan, Step, num_samples
from engine.distributed import World, sum_over_ranks
from engine.metrics.metric import Metric
from engine.observers.observer import Observers, StepRecord
from engine.state import TrainState

log = logging.getLogger(__name__)
CHECK_EVERY = 50  # optimizer steps between looks at the device for losses that are not finite
LIVE_SECONDS = 0.5
MAX_OVERFLOWS = 40  # in a row: float16 finds its scale in fewer


@dataclass
class _Sums:
    """Sums since the last full record."""

    loss: float = 0.0
    images: int = 0  # of steps with a finite loss
    seen: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    norm: float = float("nan")


class Progress:
    """Counts, and tells the observers; reads the device at log points only."""

    def __init__(
        self,
        *,
        state: TrainState,
        epochs: int,
        iterations: int,
        dataset: ImageDataset,
        observers: Observers,
        world: World,
        log_freq: int,
        live: bool,
        max_nonfinite_steps: int,
        max_bad_images: float,
    ):
        self.state, self.epochs, self.dataset = state, epochs, dataset
        self.iterations, self.observers, self.world = iterations, observers, world
        self.log_freq, self.live = log_freq, live and world.size == 1
        self.max_nonfinite_steps, self.max_bad_images = max_nonfinite_steps, max_bad_images
        self.bad_images: dict[int, str] = {}
        self._pending: list[tuple[int, Step, Tensor]] = []
        self._overflows = 0
        self._sums = _Sums()

    def start_epoch(self, plan: EpochPlan) -> None:
        """Begin to count an epoch, possibly in its middle."""
        self._plan = plan
        self._sums = _Sums()
        self._clock = self._told = time.monotonic()

    def wait(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; the time until it comes counts as waiting for data."""
        start = time.monotonic()
        batch = next(batches)
        self._sums.waited += time.monotonic() - start
        for bad in batch.replaced:
            if bad.index not in self.bad_images:
                self.bad_images[bad.index] = bad.reason
                log.warning("%s; replaced by %s", bad.reason, self.dataset.describe(bad.by))
        return batch

    def after_step(
        self, step: Step, outcome: Tensor, rate: float, metrics: dict[str, Metric]
    ) -> None:
        """Count a step; `outcome` as `Trainer.train_step` returns it."""
        self._pending.append((self.state.step - 1, step, outcome))
        now = time.monotonic()
        self._sums.seconds += now - self._clock
        self.state.seconds += now - self._clock
        self._sums.seen += num_samples(step)
        self._clock = now
        full = self.state.iteration % self.log_freq == 0 or self.state.step == len(self._plan)
        refresh = self.live and now - self._told > LIVE_SECONDS
        if full or refresh or self.state.iteration % CHECK_EVERY == 0:
            self.flush()
        if full or refresh:
            self._told = now
            self.observers.on_step(self._record(step, rate, metrics, full))
        if full:
            self._sums = _Sums()

    def flush(self) -> None:
        """Fetch the outcomes since the last look, in one transfer, and act on them.

        All ranks get here after the same step, and find the same.
        """
        if not self._pending:
            return
        rows = torch.stack([outcome for _, _, outcome in self._pending])
        bad = rows.new_tensor([[len(self.bad_images), 0, 0]])
        *outcomes, (bad_images, _, _) = sum_over_ranks(torch.cat([rows, bad]), self.world).tolist()
        self._check_bad_images(int(bad_images))
        for (number, step, _), (loss, norm, skipped) in zip(self._pending, outcomes, strict=True):
            self._overflows = 0 if math.isfinite(norm) else self._overflows + 1
            if skipped > 0 or not math.isfinite(loss) or self._overflows > MAX_OVERFLOWS:
                self._report_skipped(number, step)
            elif math.isfinite(norm):
                self.state.nonfinite = 0
                self._sums.loss += loss * num_samples(step)
                self._sums.images += num_samples(step)
                self._sums.norm = norm / self.world.size
        self._pending.clear()

    def _check_bad_images(self, count: int) -> None:
        if count > self.max_bad_images * len(self.dataset):
            last = "".join(f"; the last: {reason}" for reason in [*self.bad_images.values()][-1:])
            raise UserError(
                f"dataset.max_bad_images: {count} of {len(self.dataset)} training "
                f"images cannot be read, more than the share of {self.max_bad_images:g}; repair them "
                f"(run.log names them) or allow more{last}"
            )

    def _report_skipped(self, number: int, step: Step) -> None:
        ids = [index for micro in step for index in self._plan.indices(micro)]
        names = ", ".join(self.dataset.describe(index) for index in ids[:4])
        self.state.nonfinite += 1
        log.warning(
            "epoch %d step %d: loss or gradient is not finite, the step is skipped; "
            "%d samples, ids %s%s: %s%s",
            self.state.epoch + 1,
            number + 1,
            len(ids),
            " ".join(map(str, ids[:32])),
            " ..." if len(ids) > 32 else "",
            names,
            ", ..." if len(ids) > 4 else "",
        )
        if self.state.nonfinite >= self.max_nonfinite_steps:
            raise UserError(
                f"{self.state.nonfinite} steps in a row without a finite loss or gradient (common."
                "max_nonfinite_steps): training stops, weights are as before the first of them; "
                "lower the learning rate, set common.grad_clip, or look at the samples in run.log"
            )

    def _record(
        self, step: Step, rate: float, metrics: dict[str, Metric], full: bool
    ) -> StepRecord:
        sums, state = self._sums, self.state
        seconds = max(sums.seconds, 1e-9)
        left = len(self._plan) - state.step + (self.epochs - state.epoch - 1) * len(self._plan)
        left = min(left, self.iterations - state.iteration)
        top1 = metrics.get("top1")
        return StepRecord(
            epoch=state.epoch,
            epochs=self.epochs,
            step=state.step,
            steps=len(self._plan),
            iteration=state.iteration,
            loss=sums.loss / sums.images if sums.images else float("nan"),
            lr=rate,
            size=(step[0].height, step[0].width),
            images_per_second=sums.seen / seconds,
            data_share=sums.waited / seconds,
            eta=left * state.seconds / max(state.iteration, 1),
            gradient_norm=sums.norm,
            accuracy=float(top1.result([top1.state()])) if top1 else None,  # type: ignore[arg-type]
            full=full,
        )
