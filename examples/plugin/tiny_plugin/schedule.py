"""A learning-rate schedule: a pure function of the position, without a state."""

from __future__ import annotations

from pydantic import Field

from config.options import Options
from optim.kinds import SCHEDULES
from optim.scheduler import Schedule, SchedulePlan


class TinyStepsOptions(Options):
    """`scheduler.tiny_steps`."""

    lr: float = Field(0.01, gt=0, description="rate at the end of the warm-up")
    factor: float = Field(
        0.1, gt=0, le=1, description="what the rate is multiplied by at each drop"
    )
    drops: tuple[int, ...] = Field((), description="epochs at which the rate drops, counted from 0")


@SCHEDULES.register("tiny_steps", options=TinyStepsOptions)
class TinySteps(Schedule):
    """The rate drops at some epochs; the warm-up is that of all schedules."""

    def __init__(self, options: TinyStepsOptions, *, plan: SchedulePlan):
        super().__init__(plan, peak=options.lr)
        self.options = options

    def after_warmup(self, epoch: int, iteration: int) -> float:
        """The rate of optimizer step `iteration` of the run, which lies in `epoch`."""
        drops = sum(epoch >= drop for drop in self.options.drops)
        return self.peak * self.options.factor**drops
