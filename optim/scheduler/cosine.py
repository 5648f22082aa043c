"""Half a cosine from the highest to the lowest rate."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from config.options import Options
from optim.kinds import SCHEDULES
from optim.scheduler.base import Schedule
from optim.scheduler.plan import SchedulePlan


class CosineOptions(Options):
    """Options of the cosine schedule."""

    min_lr: float = Field(
        default=1e-5, ge=0.0, allow_inf_nan=False, description="rate that the curve ends at"
    )
    max_lr: float = Field(
        default=0.1, gt=0.0, allow_inf_nan=False, description="rate at the end of the warm-up"
    )

    @model_validator(mode="after")
    def _ordered(self) -> CosineOptions:
        if self.min_lr > self.max_lr:
            raise ValueError(
                f"min_lr: {self.min_lr:g} is above max_lr = {self.max_lr:g}; "
                "lower min_lr or raise max_lr"
            )
        return self


@SCHEDULES.register("cosine", options=CosineOptions)
class Cosine(Schedule):
    """Half a cosine from max_lr to min_lr; by epochs it is constant within an epoch."""

    def __init__(self, options: CosineOptions, plan: SchedulePlan):
        super().__init__(plan, peak=options.max_lr)
        self.options = options

    def after_warmup(self, epoch: int, iteration: int) -> float:
        low, high = self.options.min_lr, self.options.max_lr
        height = 0.5 * (1.0 + math.cos(math.pi * self.plan.progress(epoch, iteration)))
        return low + (high - low) * height
