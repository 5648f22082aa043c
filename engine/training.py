"""Put a training together from its recipe, and run it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from config.errors import UserError
from data.loader import Source
from data.sampler.plan import RunPlan
from data.sampler.section import Sampler
from engine.annealing import MomentumAnnealing
from engine.distributed import StopSignal, World, barrier, gather, join_world
from engine.effects import without_effect
from engine.evaluator import Evaluator
from engine.expected import compared, described, micro_batches
from engine.losses import build_loss
from engine.observers.jsonl import trim_history
from engine.observers.observer import Observers, build_observers
from engine.parts import (
    build_evaluator,
    build_loader,
    build_sampler,
    build_task,
    use_numerics,
    weights_metadata,
)
from engine.precision import Precision
from engine.progress import Progress
from engine.recipe import Recipe
from engine.results import Results
from engine.run_folder import log_to_file, open_folder, run_folder, state_to_resume
from engine.starting import starting_state
from engine.state import TrainState
from engine.task import Task
from engine.trainer import Trainer
from engine.training_data import labels_to_balance
from optim import SCHEDULES, Schedule, last_warmup_epoch

log = logging.getLogger(__name__)


def train(recipe: Recipe, *, quiet: bool = False) -> dict[str, Any]:
    """Train as the recipe says, or go on where the run was left; returns what summary.json holds.

    Raises UserError for mistakes, found before a device is touched where that is possible, and
    StopRequested after Ctrl-C or SIGTERM, with the state saved.
    """
    resume = state_to_resume(recipe)
    task = build_task(recipe)
    sampler = build_sampler(recipe, recipe.dataset.train_batch_size0)
    sources = {"train": task.build_source("train")}
    if not recipe.dataset.disable_val:
        sources["val"] = task.build_source("val")
    with join_world(recipe.ddp, recipe.common.device) as world, StopSignal(world) as stop:
        run = Assembly(recipe, task, sampler, sources, world, stop, resume, quiet)
        trainer = run.trainer()
        log.info("%s", run.description(trainer))
        try:
            trainer.fit()
        finally:
            trainer.close()
            run.close()
        summary = trainer.results.finish()
        if world.is_main and task.validates_as_published:
            for which, best in summary["best"].items():
                if found := compared(recipe.expected, best, run.validated):
                    log.info("best checkpoint of the %s: %s", which, found["text"])
        return summary


@dataclass
class Assembly:
    """The parts of a training, built in the order in which they need each other."""

    recipe: Recipe
    task: Task
    sampler: Sampler
    sources: dict[str, Source]
    world: World
    stop: StopSignal
    resume: Path | None
    quiet: bool

    @property
    def validated(self) -> int | None:
        """The number of validation images; None without validation."""
        return len(self.sources["val"]) if "val" in self.sources else None

    def trainer(self) -> Trainer:
        """A trainer at the position where training begins, or goes on."""
        recipe, common = self.recipe, self.recipe.common
        use_numerics(recipe)
        state = starting_state(self.task, self.world, len(self.sources["train"]), self.resume)
        plan = self.run_plan(state.processes)
        self.check_ranks(state, plan.micro_batches(state.epoch))
        plan.epoch(state.epoch)  # a data set that is too small is an error now, not in an hour
        schedule = self.schedule(plan)
        loss = build_loss(self.task).to(self.world.device)
        folder, observers = self.open_run(state)
        progress = Progress(
            state=state,
            epochs=schedule.plan.max_epochs,
            iterations=schedule.plan.max_iterations,
            dataset=self.sources["train"].dataset,
            observers=observers,
            world=self.world,
            log_freq=common.log_freq,
            live=sys.stdout.isatty() and not self.quiet,
            max_nonfinite_steps=common.max_nonfinite_steps,
            max_bad_images=recipe.dataset.max_bad_images,
        )
        results = Results(
            folder=folder,
            state=state,
            evaluator=self.evaluator(loss, state.precision),
            observers=observers,
            world=self.world,
            common=common,
            stats=recipe.stats,
            metadata=weights_metadata(self.task),
            bad_images=progress.bad_images,
        )
        return Trainer(
            task=self.task,
            network=self.wrapped(state.model),
            loss=loss,
            state=state,
            plan=plan,
            schedule=schedule,
            annealing=MomentumAnnealing(
                recipe.model.normalization.adjust_bn_momentum, schedule.plan, state.model
            ),
            loader=build_loader(recipe, self.sources["train"], self.world),
            results=results,
            progress=progress,
            stop=self.stop,
            world=self.world,
            metric_names=recipe.stats.train,
        )

    def check_ranks(self, state: TrainState, micro_batches: int) -> None:
        """UserError, on all ranks, if these processes cannot go on together."""
        here = (state.epoch, state.step, state.iteration, state.samples)
        everywhere = gather(here, self.world)
        if len(set(everywhere)) > 1:
            raise UserError(
                f"ranks are at different positions (epoch, step, iteration, samples): {everywhere}; "
                "the run folder and the data must be the same for all of them"
            )
        uneven = micro_batches % self.world.size
        synchronised = self.recipe.model.normalization.synchronised
        if synchronised and self.world.device.type == "cuda" and uneven:
            raise UserError(
                f"model.normalization.name: sync_batch_norm needs a number of processes that divides "
                f"the {micro_batches} micro-batches of a step, which {self.world.size} does not; use "
                "another number, or change dataset.train_batch_size0 or common.accum_freq"
            )

    def run_plan(self, processes: int) -> RunPlan:
        """The plan of all epochs, for the number of processes that the run was started with."""
        common, sampler = self.recipe.common, self.recipe.sampler
        batch, samples = self.recipe.dataset.train_batch_size0, len(self.sources["train"])
        return RunPlan(
            seed=common.seed,
            dataset_size=samples,
            sampler=self.sampler,
            processes=processes,
            accum_freq=common.accum_freq,
            accum_after_epoch=common.accum_after_epoch,
            solved=micro_batches(self.recipe.expected, common, batch, processes, samples),
            tail=sampler.tail,
            num_repeats=sampler.num_repeats,
            truncate=sampler.truncated_repeat_aug_sampler,
            labels=labels_to_balance(self.sources["train"].dataset, self.recipe),
            even=self.recipe.model.normalization.synchronised,  # no rank may be idle then
        )

    def schedule(self, plan: RunPlan) -> Schedule:
        """The learning rate as a function of (epoch, iteration)."""
        section = self.recipe.scheduler
        length = section.plan()
        skips = getattr(SCHEDULES[section.name].registered, "skips_warmup", False)
        warmup = length.warmup_iterations
        steps = [len(plan.epoch(0))] if warmup else []  # a plan of many images takes its time
        if warmup and (skips or length.adjust_period_for_epochs):
            # of the epochs up to the first step behind the warm-up
            while sum(steps) <= warmup and len(steps) < length.max_epochs:
                steps.append(len(plan.epoch(len(steps))))
            length = section.plan(
                warmup_epochs=last_warmup_epoch(warmup, steps),
                first_epoch=last_warmup_epoch(warmup + 1, steps),
            )
        in_all = min(length.max_iterations, steps[0] * length.max_epochs) if steps else 0
        if steps and warmup >= in_all:
            log.warning(
                "scheduler.warmup_iterations: the run has about %d steps, the warm-up %d: the learning "
                "rate never reaches its peak; lower it",
                in_all,
                warmup,
            )
        schedule: Schedule = SCHEDULES.build(section, plan=length)
        return schedule

    def evaluator(self, loss: nn.Module, precision: Precision) -> Evaluator | None:
        """Validation after each epoch, unless the recipe goes without."""
        if "val" not in self.sources:
            return None
        base = self.sampler.base._replace(batch=self.recipe.dataset.val_batch_size0)
        return build_evaluator(
            self.task, self.sources["val"], base, loss, precision, self.world, self.stop
        )

    def open_run(self, state: TrainState) -> tuple[Path, Observers]:
        """The run folder, and the observers of rank 0 (elsewhere there are none)."""
        common = self.recipe.common
        if self.world.is_main:
            open_folder(self.recipe)
        barrier(self.world)
        folder = run_folder(self.recipe)
        self.log_file = log_to_file(folder, self.world.rank)
        if not self.world.is_main:
            return folder, Observers({})
        trim_history(folder, epoch=state.epoch, iteration=state.iteration)
        names = ["console", "jsonl", "pictures", *common.observers]
        if common.tensorboard_logging:
            names.append("tensorboard")
        return folder, build_observers(names, folder=folder, quiet=self.quiet, common=common)

    def close(self) -> None:
        """Close run.log; another run of the same process has its own."""
        logging.getLogger().removeHandler(self.log_file)
        self.log_file.close()

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model as the trainer calls it: with gradient exchange if there are several ranks."""
        if self.world.size == 1:
            return model
        device = [self.world.device.index] if self.world.device.type == "cuda" else None
        # each rank counts the running statistics of its own images (share_buffers)
        return DistributedDataParallel(
            model, device_ids=device, gradient_as_bucket_view=True, broadcast_buffers=False
        )

    def description(self, trainer: Trainer) -> str:
        """What will happen, in a few lines."""
        plan, state = trainer.plan.epoch(trainer.state.epoch), trainer.state
        sizes = ", ".join(
            f"{s.height}x{s.width}: {s.batch}" for s in self.sampler.sizes(state.epoch)
        )
        parameters = sum(p.numel() for p in state.model.parameters())
        lines = [self.recipe.taskname] if self.recipe.taskname else []
        lines += [
            f"{len(self.sources['train'])} training images, {len(plan)} steps per epoch, "
            f"{self.world.size} process(es) on {self.world.device.type}, {parameters:,} parameters",
            f"image sizes and micro-batches: {sizes}",
            *described(self.recipe.expected, trainer.schedule.plan.max_epochs, self.validated),
            *self.sampler.notes(),
            *self.recipe.notes,
            *without_effect(self.recipe),
        ]
        lines += [state.precision.reason] if state.precision.reason else []
        return "\n".join(lines)
