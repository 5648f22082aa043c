"""The two kinds of components of this folder: optimizers and learning-rate schedules."""

from config.registry import Registry

OPTIMIZERS = Registry(
    "optimizer",
    section="optim.name",
    context={"groups": "parameter groups, each with params, weight_decay, lr_multiplier, names"},
)

SCHEDULES = Registry(
    "schedule",
    section="scheduler.name",
    context={"plan": "SchedulePlan: lengths of the run and its warm-up"},
)
