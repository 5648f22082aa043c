"""A power of the remaining share of the run."""

from __future__ import annotations

from pydantic import Field

from config.options import Options
from optim.kinds import SCHEDULES
from optim.scheduler.base import Schedule
from optim.scheduler.plan import SchedulePlan


class PolynomialOptions(Options):
    """Options of the polynomial schedule."""

    power: float = Field(default=0.9, gt=0.0, allow_inf_nan=False, description="exponent")
    start_lr: float = Field(
        default=0.1, gt=0.0, allow_inf_nan=False, description="rate at the end of the warm-up"
    )
    end_lr: float = Field(
        default=0.0, ge=0.0, allow_inf_nan=False, description="rate that the curve ends at"
    )


@SCHEDULES.register("polynomial", options=PolynomialOptions)
class Polynomial(Schedule):
    """(start_lr - end_lr) * (1 - progress) ^ power + end_lr."""

    def __init__(self, options: PolynomialOptions, plan: SchedulePlan):
        super().__init__(plan, peak=options.start_lr)
        self.options = options

    def after_warmup(self, epoch: int, iteration: int) -> float:
        start, end = self.options.start_lr, self.options.end_lr
        left = max(0.0, 1.0 - self.plan.progress(epoch, iteration))
        return float((start - end) * left**self.options.power + end)
