"""The state that a training begins with: fresh, from other weights, or as it was left."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from config.errors import under
from data.sampler.seeds import hashed
from engine.checkpoint import read_state
from engine.distributed import World
from engine.ema import ModelEma
from engine.freezing import freeze_modules
from engine.parts import place
from engine.precision import Precision
from engine.pretrained import load_pretrained
from engine.state import TrainState
from engine.task import Task
from optim import OPTIMIZERS, parameter_groups

log = logging.getLogger(__name__)
INIT = 3  # what a hash is for: start values of the weights


def starting_state(task: Task, world: World, samples: int, resume: Path | None) -> TrainState:
    """Model, optimizer and counters at the position where training begins, or goes on.

    `samples`: how many images there are to train on; `resume`: the training state to continue.
    UserError if that, or weights that the recipe names, do not fit.
    """
    recipe = task.recipe
    torch.manual_seed(hashed(recipe.common.seed, INIT))
    task.resumed, task.trains = resume is not None, True
    model = _model(task, world)
    groups = parameter_groups(
        model,
        weight_decay=recipe.optim.weight_decay,
        no_decay_bn_filter_bias=recipe.optim.no_decay_bn_filter_bias,
        lr_multipliers=task.lr_multipliers(model),
    )
    state = TrainState(
        model=model,
        optimizer=OPTIMIZERS.build(recipe.optim, groups=groups),
        precision=Precision(recipe.common, world.device),
        ema=_average(task, model) if recipe.ema.enable else None,
        processes=world.size,
        samples=samples,
        classes=list(task.class_names),
    )
    if resume is not None:
        with under("common.resume" if recipe.common.resume else "common.auto_resume", resume):
            state.load_state_dict(read_state(resume), resume)
        state.origin = resume.parent
        log.info("resuming %s at epoch %d, step %d", resume, state.epoch + 1, state.step)
    return state


def _model(task: Task, world: World) -> nn.Module:
    """The network on the device, with the weights that the recipe names; what it freezes is frozen."""
    recipe = task.recipe
    model = task.build_model()
    if recipe.common.finetune and not task.resumed:
        load_pretrained(model, task, "common.finetune", recipe.common.finetune)
    model = place(model, recipe, world)
    # behind `place`, which may put other norms in the place of batch norms
    freeze_modules(model, recipe.model.freeze_modules)
    return model


def _average(task: Task, model: nn.Module) -> ModelEma:
    """The average, which starts as the model or as weights of its own."""
    recipe = task.recipe
    ema = ModelEma(model, recipe.ema.momentum, warmup=recipe.ema.warmup)
    if recipe.common.finetune_ema and not task.resumed:
        load_pretrained(ema.model, task, "common.finetune_ema", recipe.common.finetune_ema)
    return ema
