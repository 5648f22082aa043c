"""The training loop. It knows steps and micro-batches; what a batch means is the task's business."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from config.errors import StopRequested
from data.loader import Loader
from data.sample import Batch
from data.sampler.plan import EpochPlan, RunPlan, Step, num_samples
from data.sampler.seeds import hashed
from engine.annealing import MomentumAnnealing
from engine.distributed import GO_ON, STOP, StopSignal, World, gather, share_buffers
from engine.metrics.metric import Metric, Observation, build_metrics, results
from engine.precision import BufferGuard
from engine.progress import Progress
from engine.results import Results
from engine.state import TrainState
from engine.task import Task
from optim import set_learning_rate
from optim.scheduler.base import Schedule

SAVED = "the state is saved, the same command continues"
NOISE = 4  # what a hash is for: dropout, mixing of images


@dataclass
class Trainer:
    """Takes the steps of the plan from the state's position to the end of training."""

    task: Task
    network: nn.Module  # the model, wrapped for several processes
    loss: nn.Module
    state: TrainState
    plan: RunPlan
    schedule: Schedule
    annealing: MomentumAnnealing
    loader: Loader
    results: Results
    progress: Progress
    stop: StopSignal
    world: World
    metric_names: tuple[str, ...]

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.state.model.parameters() if p.requires_grad]
        self.guard = BufferGuard(self.state.model)
        self.metrics: dict[str, Metric] = {}

    def fit(self) -> None:
        """Train to the end. StopRequested when asked to stop; the state is saved then."""
        state = self.state
        while not (state.finished and self._is_over()):
            self.train_epoch(self.plan.epoch(state.epoch))
            stopping = self.stop.finish() == STOP
            share_buffers(state.models().values(), self.world)
            counted = self._counted()
            self.results.save_state(state, counted)  # evaluation may take long, and be interrupted
            if stopping:
                raise StopRequested(SAVED)
            self.results.after_epoch(results(self.metrics, counted))
            if state.ema is not None and state.epoch == self.task.recipe.ema.copy_at_epoch:
                state.ema.copy_to_model()
                self.results.after_copy()
            state.epoch, state.step, state.metrics = state.epoch + 1, 0, []
            state.finished = self._is_over()
            self.results.save_state(state, [])
        self.results.after_training()

    def close(self) -> None:
        """End the workers of all loaders, also after an error."""
        self.loader.close()
        if self.results.evaluator is not None:
            self.results.evaluator.loader.close()

    def train_epoch(self, plan: EpochPlan) -> None:
        """The steps of one epoch that are left."""
        state = self.state
        self.metrics = build_metrics(self.metric_names, self.task.recipe.stats)
        self.network.train()
        self.loss.train()
        self.progress.start_epoch(plan)
        with closing(self.loader.training(plan, state.step)) as batches:
            for step in plan.steps[state.step :]:
                if self._is_over():
                    break
                rate = self.schedule(state.epoch, state.iteration)
                set_learning_rate(state.optimizer, rate)
                self.annealing(state.epoch, state.iteration)
                outcome = self.train_step(step, batches)
                state.step += 1
                state.iteration += 1
                state.images += num_samples(step)
                self.progress.after_step(step, outcome, rate, self.metrics)
                self._save_or_stop()
        self.progress.flush()

    def _is_over(self) -> bool:
        plan, state = self.schedule.plan, self.state
        ended = state.epoch >= plan.max_epochs or state.iteration >= plan.max_iterations
        return ended or self.results.out_of_patience()

    def train_step(self, step: Step, batches: Iterator[Batch]) -> Tensor:
        """One optimizer step over this rank's micro-batches.

        Returns float [3] on the device: this rank's share of the step's mean loss, the gradient
        norm, and 1 if the step was skipped because something was not finite.
        """
        total = num_samples(step)
        mine = [m for m in range(len(step)) if m % self.world.size == self.world.rank]
        # the same type on all ranks, also on one without images: these numbers are summed over ranks
        share = torch.zeros((), device=self.world.device, dtype=self.parameters[0].dtype)
        self.guard.save()
        for m in mine:
            batch = self.progress.wait(batches).to(self.world.device)
            torch.manual_seed(hashed(self.plan.seed, NOISE, self.state.iteration, m))
            with self._reduce(m == mine[-1]):
                share += self.backward(batch, len(batch) / total)
        if not mine:
            self.join_without_images(step)
        outcome = self.state.precision.step(self.state.optimizer, self.parameters, share)
        self.guard.restore_if(outcome[1] > 0)
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.state.ema is not None:
            self.state.ema.update(self.state.iteration)
        for metric in self.metrics.values():
            metric.step(outcome[0])
        return torch.cat([share.detach().to(outcome.dtype).reshape(1), outcome])

    def backward(self, batch: Batch, weight: float) -> Tensor:
        """Add the gradient of one micro-batch; returns its weighted loss.

        `weight` is its share of the step's images. DDP divides the sum over ranks by their
        number, which the factor takes back: the step's gradient is the mean over its images.
        """
        images, targets = self.task.prepare(batch, training=True)
        with self.state.precision.autocast():
            outputs = self.network(images)
            loss = self.loss(images, outputs, targets)
        # a loss that is not finite must spoil the gradient of all ranks, even if its own is finite
        factor = torch.where(loss.total.detach().isfinite(), weight * self.world.size, torch.nan)
        self.state.precision.backward(loss.total * factor)
        for metric in self.metrics.values():
            metric.update(Observation(outputs, targets, loss, len(batch), training=True))
        return loss.total.detach() * weight

    def join_without_images(self, step: Step) -> None:
        """Take part in the reduction with a gradient of zero: this step has too few micro-batches."""
        height, width = step[0].height, step[0].width
        images = torch.zeros((2, 3, height, width), dtype=torch.uint8, device=self.world.device)
        # the images must not reach the running statistics; nothing else may change, or parameters
        # that are used in training only would be missing from the reduction
        norms = [m for m in self.network.modules() if isinstance(m, _BatchNorm) and m.training]
        for norm in norms:
            norm.eval()
        with self.state.precision.autocast():
            outputs = self.network(self.task.scale(images))
            nothing = sum(output.sum() * 0 for output in _tensors(outputs))
        self.state.precision.backward(torch.as_tensor(nothing))
        for norm in norms:
            norm.train()

    def _reduce(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged in the backward pass of a rank's last micro-batch only."""
        if isinstance(self.network, DistributedDataParallel) and not last:
            return self.network.no_sync()
        return nullcontext()

    def _save_or_stop(self) -> None:
        wish = self.stop.agree(save=self.results.save_is_late())
        if wish != GO_ON or self.results.save_is_due(self.state.iteration):
            self.stop.finish()  # what follows are other collectives
            self.progress.flush()
            self.results.save_state(self.state, self._counted())
        if wish == STOP:
            raise StopRequested(SAVED)

    def _counted(self) -> list[dict[str, Any]]:
        """What the metrics of all ranks have counted in this epoch, also before a resume."""
        mine = {name: metric.state() for name, metric in self.metrics.items()}
        return self.state.metrics + gather(mine, self.world)


def _tensors(outputs: Any) -> list[Tensor]:
    """The differentiable tensors in a network's output."""
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.requires_grad else []
    values = (
        outputs.values() if isinstance(outputs, dict) else getattr(outputs, "__dict__", {}).values()
    )
    if isinstance(outputs, list | tuple):
        values = outputs
    return [tensor for value in values for tensor in _tensors(value)]
