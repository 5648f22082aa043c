"""The parts that training and evaluation have in common, built from a recipe."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import nn

from data.kinds import SAMPLERS
from data.loader import Loader, Source
from data.sampler.plan import Size, plan_evaluation
from data.sampler.section import Sampler
from engine.distributed import StopSignal, World
from engine.evaluator import Evaluator
from engine.kinds import TASKS
from engine.precision import Precision
from engine.reading import task_name
from engine.recipe import Recipe
from engine.resolved import flat
from engine.settings import CommonOptions
from engine.task import Task
from engine.training_data import check_use_of_data

log = logging.getLogger(__name__)


def build_task(recipe: Recipe) -> Task:
    """The task of the recipe, which has looked at its own options."""
    task: Task = TASKS.build(recipe.dataset, name=task_name(recipe), recipe=recipe)
    check_use_of_data(recipe, task.kind)
    task.check()
    return task


def build_sampler(recipe: Recipe, batch_size: int) -> Sampler:
    """The sampler of the recipe for batches of the base size."""
    sampler: Sampler = SAMPLERS.build(recipe.sampler, batch_size=batch_size)
    return sampler


def use_numerics(recipe: Recipe) -> None:
    """Switch torch to bit-equal results if the recipe asks for them, else to fast ones."""
    deterministic = recipe.common.deterministic
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def place(model: nn.Module, recipe: Recipe, world: World) -> nn.Module:
    """The model on the device, in the recipe's type and memory order."""
    if recipe.model.normalization.synchronised:
        if world.size > 1 and world.device.type == "cuda":
            model = synchronised(model)
        else:
            log.info("sync_batch_norm: on this device and number of processes it is batch norm")
    return cast(model, recipe.common).to(world.device)


def cast(model: nn.Module, common: CommonOptions) -> nn.Module:
    """The model in the recipe's type and memory order, where it is."""
    dtype = torch.float64 if common.parameter_dtype == "float64" else torch.float32
    order = torch.channels_last if common.channels_last else torch.preserve_format
    return model.to(dtype=dtype).to(memory_format=order)


def synchronised(model: nn.Module) -> nn.Module:
    """The model with batch norms that share their statistics."""
    if any(type(module).__module__.startswith("timm.") for module in model.modules()):
        from timm.layers.norm_act import convert_sync_batchnorm

        # torch's conversion loses the activation that timm's norms have inside
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]


def build_loader(recipe: Recipe, source: Source, world: World) -> Loader:
    """The loader of one rank."""
    data = recipe.dataset
    available = max(1, _cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    workers = available if data.workers < 0 else data.workers
    if workers > available:  # more only get in each other's way, and results do not depend on it
        log.info("dataset.workers: %d of %d are used, one per CPU", available, workers)
        workers = available
    return Loader(
        source,
        rank=world.rank,
        world_size=world.size,
        workers=workers,
        prefetch_factor=data.prefetch_factor,
        persistent_workers=data.persistent_workers,
        pin_memory=data.pin_memory and world.device.type == "cuda",
    )


def _cpus() -> int:
    """The CPUs that this process may use; not all systems can tell them from those there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def build_evaluator(
    task: Task,
    source: Source,
    size: Size,
    loss: nn.Module,
    precision: Precision,
    world: World,
    stop: StopSignal | None,
) -> Evaluator:
    """Evaluation of one split in batches of `size`."""
    return Evaluator(
        task=task,
        loss=loss,
        loader=build_loader(task.recipe, source, world),
        plan=plan_evaluation(len(source), size),
        metrics=task.recipe.stats.val,
        precision=precision,
        world=world,
        stop=stop,
    )


def weights_metadata(task: Task) -> dict[str, Any]:
    """What travels with the weights: task, classes, preprocessing, the recipe, as JSON types."""
    recipe = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in flat(task.recipe).items()
    }
    return {
        "format": 2,
        "task": task_name(task.recipe),
        **task.metadata(),
        "preprocessing": task.preprocessing().as_json(),
        "recipe": recipe,
    }
