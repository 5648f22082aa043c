"""The epoch's plan: a pure function of (seed, epoch, data-set size, recipe).

An epoch is a list of optimizer steps, a step a list of micro-batches of one image size.
Micro-batch number m of a step goes to rank m mod R, so more processes, gradient accumulation
and resuming on other hardware are all another dealing of the same list.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from data.sample import SampleKey
from data.sampler.order import sample_order
from data.sampler.seeds import hashed

Tail = Literal["merge", "drop", "pad"]
# what a hash is for, so that two kinds of draws never share their numbers
ORDER, SIZE, SAMPLE = 1, 2, 3


class Size(NamedTuple):
    """An image size in pixels, and how many images of it make a micro-batch."""

    height: int
    width: int
    batch: int


class MicroBatch(NamedTuple):
    """Positions [start, stop) of the epoch's order, at one image size in pixels."""

    height: int
    width: int
    start: int
    stop: int

    @property
    def images(self) -> int:
        """How many images it holds."""
        return self.stop - self.start


Step = tuple[MicroBatch, ...]


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: `order` int64 [positions] holds sample indices, `steps` the micro-batches."""

    seed: int
    epoch: int
    order: npt.NDArray[np.int64]
    steps: tuple[Step, ...]

    def __len__(self) -> int:
        return len(self.steps)

    def indices(self, micro: MicroBatch) -> list[int]:
        """The sample indices of a micro-batch."""
        return [int(index) for index in self.order[micro.start : micro.stop]]

    def keys(self, micro: MicroBatch) -> list[SampleKey]:
        """The sample keys of a micro-batch."""
        positions = range(micro.start, micro.stop)
        return [
            SampleKey(index, micro.height, micro.width, hashed(self.seed, self.epoch, SAMPLE, p))
            for p, index in zip(positions, self.indices(micro), strict=True)
        ]


def num_samples(step: Step) -> int:
    """Images in a step, over all its micro-batches."""
    return sum(micro.images for micro in step)


def plan_epoch(
    *,
    seed: int,
    epoch: int,
    dataset_size: int,
    sizes: Sequence[Size],
    micro_batches: int,
    tail: Tail = "merge",
    num_repeats: int = 1,
    truncate: bool = False,
    even: bool = False,
    labels: npt.NDArray[np.int64] | None = None,
    stream: tuple[int, ...] = (),
) -> EpochPlan:
    """The plan of a training epoch; each step draws one of `sizes` with equal probability.

    Every sample comes once (`num_repeats` times in a row with repeated augmentation, cut back to
    the data set's size by `truncate`), or every class equally often if `labels` int64 [N] are given.
    With `even` every step has all its micro-batches, as synchronised batch norm needs it: the last
    images are spread over them. `stream` tells plans of one epoch apart. UserError if the data set is
    too small for one step.
    """
    words = (seed, epoch, ORDER, *stream)
    order = sample_order(
        dataset_size, *words, labels=labels, num_repeats=num_repeats, truncate=truncate
    )
    steps: list[list[MicroBatch]] = []
    start = 0
    while start < len(order):
        height, width, batch = sizes[hashed(seed, epoch, SIZE, len(steps), *stream) % len(sizes)]
        stop = min(start + batch * micro_batches, len(order))
        cuts = [*range(start, stop, batch), stop]
        steps.append([MicroBatch(height, width, a, b) for a, b in itertools.pairwise(cuts)])
        start = stop
    if steps:
        order = _finish_tail(steps, order, batch, tail)
    if even:
        _spread_tail(steps, micro_batches)
    if not any(steps):
        raise UserError(
            f"dataset.root_train: {dataset_size} training samples are too few for a step "
            f"(sampler.tail={tail}, micro-batches of {min(size.batch for size in sizes)}); "
            "add images, lower dataset.train_batch_size0, or set sampler.tail=merge"
        )
    return EpochPlan(seed, epoch, order, tuple(tuple(step) for step in steps if step))


def _spread_tail(steps: list[list[MicroBatch]], micro_batches: int) -> None:
    """Spread the last step, with the one before if it has too few images, over all micro-batches."""
    if not steps or len(steps[-1]) == micro_batches:
        return
    last = steps.pop()
    start, stop = last[0].start, last[-1].stop
    if stop - start < 2 * micro_batches and steps:
        last = steps.pop()
        start = last[0].start
    if stop - start < 2 * micro_batches:
        return
    cuts = [int(cut) for cut in np.linspace(start, stop, micro_batches + 1)]
    height, width = last[0].height, last[0].width
    steps.append([MicroBatch(height, width, a, b) for a, b in itertools.pairwise(cuts)])


def joined(plans: Sequence[EpochPlan], *, interleave: bool) -> EpochPlan:
    """One plan of several of the same epoch: one after the other, or their steps in turn.

    A plan that ends before the others is left out of the later turns.
    """
    moved = []
    start = 0
    for plan in plans:
        moved.append(
            [
                tuple(m._replace(start=m.start + start, stop=m.stop + start) for m in step)
                for step in plan.steps
            ]
        )
        start += len(plan.order)
    turns = itertools.zip_longest(*moved) if interleave else moved
    steps = tuple(step for turn in turns for step in turn if step is not None)
    order = np.concatenate([plan.order for plan in plans])
    return EpochPlan(plans[0].seed, plans[0].epoch, order, steps)


class Sizes(Protocol):
    """What a plan needs of a sampler."""

    def sizes(self, epoch: int) -> list[Size]: ...


@runtime_checkable
class Chained(Sizes, Protocol):
    """A sampler made of several: each covers the data set, one after the other or in turns."""

    samplers: tuple[Sizes, ...]
    interleave: bool


@dataclass(frozen=True)
class RunPlan:
    """The plans of all epochs of a run.

    `processes` is the number of processes that the run was started with: together with
    `accum_freq`, which counts from epoch `accum_after_epoch` on, it fixes the micro-batches per
    step for good, whatever the number of processes later. `solved` gives their number instead.
    """

    seed: int
    dataset_size: int
    sampler: Sizes
    processes: int = 1
    accum_freq: int = 1
    accum_after_epoch: int = 0
    tail: Tail = "merge"
    num_repeats: int = 1
    truncate: bool = False
    even: bool = False
    labels: npt.NDArray[np.int64] | None = None
    solved: int | None = None

    def micro_batches(self, epoch: int) -> int:
        """The micro-batches of a full step of this epoch."""
        if self.solved is not None:
            return self.solved
        return self.processes * (self.accum_freq if epoch >= self.accum_after_epoch else 1)

    def epoch(self, epoch: int) -> EpochPlan:
        """The plan of one epoch."""
        if not isinstance(self.sampler, Chained):
            return self._of(self.sampler, epoch)
        plans = [
            self._of(sampler, epoch, number) for number, sampler in enumerate(self.sampler.samplers)
        ]
        return joined(plans, interleave=self.sampler.interleave)

    def _of(self, sampler: Sizes, epoch: int, *stream: int) -> EpochPlan:
        return plan_epoch(
            seed=self.seed,
            epoch=epoch,
            dataset_size=self.dataset_size,
            sizes=sampler.sizes(epoch),
            micro_batches=self.micro_batches(epoch),
            tail=self.tail,
            num_repeats=self.num_repeats,
            truncate=self.truncate,
            even=self.even,
            labels=self.labels,
            stream=stream,
        )


def _finish_tail(
    steps: list[list[MicroBatch]], order: npt.NDArray[np.int64], batch: int, tail: Tail
) -> npt.NDArray[np.int64]:
    """Treat the last micro-batch, which may be smaller than `batch`; returns the order to use."""
    last = steps[-1][-1]
    missing = batch - last.images
    if missing == 0:
        return order
    if tail == "pad":
        steps[-1][-1] = last._replace(stop=last.stop + missing)
        return np.concatenate([order, np.resize(order, missing)])
    if tail == "drop" or last.images < 2:
        steps[-1].pop()
        if not steps[-1]:
            steps.pop()
        if tail == "merge" and steps:
            steps[-1][-1] = steps[-1][-1]._replace(stop=last.stop)
    return order


def plan_evaluation(dataset_size: int, size: Size) -> EpochPlan:
    """Every sample once, in order, in steps of one micro-batch; nothing is padded."""
    steps = [
        (MicroBatch(size.height, size.width, a, min(a + size.batch, dataset_size)),)
        for a in range(0, dataset_size, size.batch)
    ]
    return EpochPlan(0, 0, np.arange(dataset_size, dtype=np.int64), tuple(steps))
