"""Optimizers, parameter groups and learning-rate schedules."""

from optim.kinds import OPTIMIZERS, SCHEDULES
from optim.optimizers import AdamOptions, SgdOptions, adam, adamw, sgd
from optim.param_groups import parameter_groups
from optim.scheduler import (
    Schedule,
    SchedulePlan,
    SchedulerSection,
    last_warmup_epoch,
)
from optim.section import OptimSection
from optim.update import set_learning_rate, step_unless

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "AdamOptions",
    "OptimSection",
    "Schedule",
    "SchedulePlan",
    "SchedulerSection",
    "SgdOptions",
    "adam",
    "adamw",
    "last_warmup_epoch",
    "parameter_groups",
    "set_learning_rate",
    "sgd",
    "step_unless",
]
