"""A rate that falls at given epochs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from config.options import Options
from optim.kinds import SCHEDULES
from optim.scheduler.base import Schedule
from optim.scheduler.plan import SchedulePlan, check_rising


class MultiStepOptions(Options):
    """Options of the schedule of steps."""

    lr: float = Field(
        default=0.1, gt=0.0, allow_inf_nan=False, description="rate at the end of the warm-up"
    )
    gamma: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="factor of the rate at each milestone; null means 1",
    )
    milestones: tuple[int, ...] | None = Field(
        default=None, description="epochs (counted from 0) that begin with a factor; null: none"
    )

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...] | None) -> tuple[int, ...] | None:
        check_rising(milestones)
        return milestones


@SCHEDULES.register("multi_step", options=MultiStepOptions)
class MultiStep(Schedule):
    """lr * gamma ^ (milestones reached), constant within an epoch.

    As officially, a milestone counts in an epoch that has a step behind the warm-up: one that the
    warm-up covers whole is passed over for good.
    """

    skips_warmup: ClassVar[bool] = True

    def __init__(self, options: MultiStepOptions, plan: SchedulePlan):
        super().__init__(plan, peak=options.lr)
        self.gamma = 1.0 if options.gamma is None else options.gamma
        self.milestones = options.milestones or ()

    def after_warmup(self, epoch: int, iteration: int) -> float:
        reached = [mark for mark in self.milestones if self.plan.first_epoch <= mark <= epoch]
        return float(self.peak * self.gamma ** len(reached))
