"""Learning-rate schedules: pure functions of (epoch, iteration)."""

from optim.scheduler.base import Schedule
from optim.scheduler.cosine import Cosine, CosineOptions
from optim.scheduler.cyclic import Cyclic, CyclicOptions
from optim.scheduler.fixed import Fixed, FixedOptions
from optim.scheduler.multi_step import MultiStep, MultiStepOptions
from optim.scheduler.plan import SchedulePlan, last_warmup_epoch
from optim.scheduler.polynomial import Polynomial, PolynomialOptions
from optim.scheduler.section import SchedulerSection

__all__ = [
    "Cosine",
    "CosineOptions",
    "Cyclic",
    "CyclicOptions",
    "Fixed",
    "FixedOptions",
    "MultiStep",
    "MultiStepOptions",
    "Polynomial",
    "PolynomialOptions",
    "Schedule",
    "SchedulePlan",
    "SchedulerSection",
    "last_warmup_epoch",
]
