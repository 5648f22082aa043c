"""The contract of a schedule, and the linear warm-up that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from optim.scheduler.plan import SchedulePlan


class Schedule(ABC):
    """The learning rate as a pure function: `schedule(epoch, iteration)`, both counted from 0.

    A schedule has no state; the same arguments give the same rate. It is exact; rounding to
    eight decimals is `set_learning_rate`'s, after the multiplication per group. A subclass is
    built as `Kind(its_options, plan=plan)` and says how the rate goes on from `peak`.
    `skips_warmup`: whether it has to know of the epoch in which the warm-up ends.
    """

    skips_warmup: ClassVar[bool] = False

    def __init__(self, plan: SchedulePlan, *, peak: float):
        self.plan = plan
        self.peak = peak

    def __call__(self, epoch: int, iteration: int) -> float:
        """The rate of optimizer step `iteration` (counted over the whole run) in `epoch`."""
        plan = self.plan
        if iteration < plan.warmup_iterations:
            start = plan.warmup_init_lr
            return start + iteration * (self.peak - start) / plan.warmup_iterations
        return self.after_warmup(epoch, iteration)

    @abstractmethod
    def after_warmup(self, epoch: int, iteration: int) -> float:
        """The rate at a step that the warm-up does not cover."""
