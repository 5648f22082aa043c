"""Short falls from a high to a low rate, again and again, and a long one at the end.

After Mehta et al., "ESPNetv2", CVPR 2019, section 4.1, with warm restarts after Loshchilov and
Hutter, "SGDR", ICLR 2017; the formulas are the official ones.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from config.errors import UserError
from config.options import Options
from optim.kinds import SCHEDULES
from optim.scheduler.base import Schedule
from optim.scheduler.plan import SchedulePlan, check_rising


class CyclicOptions(Options):
    """Options of the cyclic schedule."""

    min_lr: float = Field(
        default=0.1,
        gt=0.0,
        allow_inf_nan=False,
        description="lowest rate of the cycles, and the rate at the end of the warm-up; the highest "
        "is epochs_per_cycle times as large",
    )
    total_cycles: int = Field(default=11, ge=1, description="cycles, the long last one included")
    epochs_per_cycle: int = Field(default=5, ge=1, description="epochs of each but the last cycle")
    steps: tuple[int, ...] | None = Field(
        default=None,
        description="epochs (counted from 0) from which on all rates of the cycles are multiplied by "
        "gamma, at the second one by gamma^2 more, and so on; null: none",
    )
    gamma: float = Field(default=0.5, gt=0.0, allow_inf_nan=False, description="factor at `steps`")
    last_cycle_type: Literal["linear", "cosine"] = Field(
        default="linear", description="how the rate falls in the last cycle"
    )
    last_cycle_end_lr: float = Field(
        default=1e-3, ge=0.0, allow_inf_nan=False, description="rate at the end of the last cycle"
    )

    @property
    def last_start(self) -> int:
        """The epoch behind which the last cycle starts."""
        return (self.total_cycles - 1) * self.epochs_per_cycle

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        check_rising(steps)
        return steps


@SCHEDULES.register("cyclic", options=CyclicOptions)
class Cyclic(Schedule):
    """Cycles of C epochs: min_lr, then C * min_lr down to 2 * min_lr; at last down to the end rate.

    It counts epochs and is constant within one. The last cycle starts behind epoch
    (total_cycles - 1) * C, which itself still has min_lr.
    """

    skips_warmup: ClassVar[bool] = True

    def __init__(self, options: CyclicOptions, plan: SchedulePlan):
        super().__init__(plan, peak=options.min_lr)
        self.options = options
        late = [mark for mark in options.steps or () if mark > options.last_start]
        if plan.is_iteration_based:
            raise UserError(
                "scheduler.is_iteration_based: the cyclic schedule counts epochs; set it to false"
            )
        if late:
            raise UserError(
                f"scheduler.cyclic.steps: epoch {late[0]} lies in the last cycle, which starts behind "
                f"epoch {options.last_start}; leave it out"
            )

    def after_warmup(self, epoch: int, iteration: int) -> float:
        options, length = self.options, self.options.epochs_per_cycle
        low = options.min_lr * self._factor(epoch)
        if epoch <= options.last_start:
            return low * (1 + (-epoch) % length)
        end, behind, total = options.last_cycle_end_lr, options.last_start, self.plan.max_epochs
        if options.last_cycle_type == "linear":
            return low - (epoch - behind + 1) * (low - end) / (total - behind)
        share = (epoch - behind) / (total - behind + 1)
        return end + (low - end) * 0.5 * (1.0 + math.cos(math.pi * share))

    def _factor(self, epoch: int) -> float:
        """What the steps reached so far have made of the rates."""
        marks = enumerate(self.options.steps or (), 1)
        reached = [place for place, mark in marks if self.plan.first_epoch <= mark <= epoch]
        return float(self.options.gamma ** sum(reached))
