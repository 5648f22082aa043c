"""The `scheduler` section of a recipe: what all schedules share."""

from __future__ import annotations

from pydantic import Field, model_validator

from config.options import Section
from optim.scheduler.plan import UNLIMITED, SchedulePlan

DEFAULT_EPOCHS = 300
DEFAULT_ITERATIONS = 300_000


class SchedulerSection(Section):
    """Length of the training run, warm-up, and how the learning rate changes."""

    name: str = Field(default="cosine", description="schedule, e.g. cosine or fixed")
    max_epochs: int | None = Field(
        default=None,
        ge=1,
        description="epochs of the run; null means 300. Not read when is_iteration_based",
    )
    max_iterations: int | None = Field(
        default=None,
        ge=1,
        description="optimizer steps of the run when is_iteration_based; null means 300000",
    )
    warmup_iterations: int | None = Field(
        default=None,
        ge=0,
        description="optimizer steps in which the rate rises linearly to its peak; null means 0",
    )
    warmup_init_lr: float = Field(
        default=1e-7, ge=0.0, allow_inf_nan=False, description="rate of the warm-up's first step"
    )
    is_iteration_based: bool = Field(
        default=False, description="measure the run in optimizer steps instead of epochs"
    )
    adjust_period_for_epochs: bool = Field(
        default=False,
        description="take the warm-up's epochs out of the period of a schedule by epochs",
    )

    @model_validator(mode="after")
    def _lengths_agree(self) -> SchedulerSection:
        if self.max_iterations is not None and not self.is_iteration_based:
            raise ValueError(
                "max_iterations: is read only when is_iteration_based is true; "
                "set is_iteration_based: true, or leave max_iterations out and set max_epochs"
            )
        total = self.max_iterations or DEFAULT_ITERATIONS
        if self.is_iteration_based and (self.warmup_iterations or 0) > total:
            raise ValueError(
                f"warmup_iterations: {self.warmup_iterations} is more than max_iterations = {total}; "
                "lower the one or raise the other"
            )
        return self

    def plan(self, *, warmup_epochs: int = 0, first_epoch: int = 0) -> SchedulePlan:
        """The plan with all defaults filled in; both arguments come from `last_warmup_epoch`."""
        by_steps = self.is_iteration_based
        return SchedulePlan(
            max_epochs=UNLIMITED if by_steps else self.max_epochs or DEFAULT_EPOCHS,
            max_iterations=(self.max_iterations or DEFAULT_ITERATIONS) if by_steps else UNLIMITED,
            warmup_iterations=self.warmup_iterations or 0,
            warmup_init_lr=self.warmup_init_lr,
            is_iteration_based=by_steps,
            adjust_period_for_epochs=self.adjust_period_for_epochs,
            warmup_epochs=warmup_epochs,
            first_epoch=first_epoch,
        )
