"""What a schedule knows of the run: how long it is, and where its warm-up ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from config.errors import UserError

# The official stand-in for "no limit".
UNLIMITED = 10**7


@dataclass(frozen=True)
class SchedulePlan:
    """Lengths of the run; epochs and iterations (optimizer steps) count from 0.

    `warmup_epochs` is the index of the epoch in which the warm-up's last iteration falls, 0
    without warm-up (see `last_warmup_epoch`); only `adjust_period_for_epochs` reads it.
    `first_epoch` is the one of the first step behind the warm-up; schedules with `skips_warmup`
    read it.
    """

    max_epochs: int = 300
    max_iterations: int = UNLIMITED
    warmup_iterations: int = 0
    warmup_init_lr: float = 1e-7
    is_iteration_based: bool = False
    adjust_period_for_epochs: bool = False
    warmup_epochs: int = 0
    first_epoch: int = 0

    def __post_init__(self) -> None:
        if self.is_iteration_based and self.warmup_iterations > self.max_iterations:
            raise UserError(
                f"scheduler.warmup_iterations: {self.warmup_iterations} is more than "
                f"scheduler.max_iterations = {self.max_iterations}; lower the one or raise the other"
            )
        if not self.is_iteration_based and self.warmup_epochs >= self.max_epochs:
            raise UserError(
                f"scheduler.warmup_iterations: the warm-up ends in epoch {self.warmup_epochs} "
                f"(counted from 0) of {self.max_epochs}; shorten it or raise scheduler.max_epochs"
            )

    def progress(self, epoch: int, iteration: int) -> float:
        """Share of the period after warm-up that lies behind, as official schedules count it.

        By epochs it runs from 0 and never reaches 1, and the warm-up is part of the period;
        `adjust_period_for_epochs` takes the warm-up's epochs out of it, and then the epoch in
        which the warm-up ends (the first one without warm-up) lies before the period: below 0.
        """
        if self.is_iteration_based:
            warmup = self.warmup_iterations
            return (iteration - warmup) / (self.max_iterations - warmup + 1)
        if not self.adjust_period_for_epochs:
            return epoch / self.max_epochs
        start = self.warmup_epochs + 1
        return (epoch - start) / (self.max_epochs - self.warmup_epochs)


def check_rising(epochs: Iterable[int] | None) -> None:
    """ValueError unless the epochs, if any, are at least 0 and rise."""
    numbers = list(epochs or ())
    if numbers != sorted(set(numbers)) or min(numbers, default=0) < 0:
        raise ValueError("give epochs from 0 on, each once, in rising order")


def last_warmup_epoch(warmup_iterations: int, steps_per_epoch: Iterable[int]) -> int:
    """Index of the epoch in which iteration `warmup_iterations - 1` falls; 0 without warm-up.

    `steps_per_epoch` gives the optimizer steps of epoch 0, 1, ... (they may differ). A warm-up
    longer than all of them ends with the last.
    """
    if warmup_iterations <= 0:
        return 0
    last, done = 0, 0
    for epoch, steps in enumerate(steps_per_epoch):
        last, done = epoch, done + steps
        if done >= warmup_iterations:
            break
    return last
