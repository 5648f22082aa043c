"""One rate from the end of the warm-up on."""

from __future__ import annotations

from pydantic import Field

from config.errors import UserError
from config.options import Options
from optim.kinds import SCHEDULES
from optim.scheduler.base import Schedule
from optim.scheduler.plan import SchedulePlan


class FixedOptions(Options):
    """Options of the fixed schedule."""

    lr: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="the rate; required when this schedule is selected",
    )


@SCHEDULES.register("fixed", options=FixedOptions)
class Fixed(Schedule):
    """The same rate in every step after the warm-up."""

    def __init__(self, options: FixedOptions, plan: SchedulePlan):
        if options.lr is None:
            raise UserError("scheduler.fixed.lr: the fixed schedule needs a rate, e.g. 0.001")
        super().__init__(plan, peak=options.lr)

    def after_warmup(self, epoch: int, iteration: int) -> float:
        return self.peak
