"""What a run leaves behind: checkpoints, the best of them, summary.json."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from config.errors import UserError
from cvnets.weights.files import METADATA
from engine.checkpoint import save_state, save_weights, write_json
from engine.distributed import World
from engine.evaluator import Evaluation, Evaluator
from engine.observers.observer import EvaluationRecord, Observers
from engine.settings import CommonOptions, StatsOptions
from engine.state import TrainState

log = logging.getLogger(__name__)

FILES = {"model": "checkpoint", "ema": "checkpoint_ema"}
STAGES = {"model": "Val", "ema": "Val_EMA"}


@dataclass
class Results:
    """Evaluates after each epoch, on all ranks; rank 0 writes the files."""

    folder: Path
    state: TrainState
    evaluator: Evaluator | None
    observers: Observers
    world: World
    common: CommonOptions
    stats: StatsOptions
    metadata: dict[str, Any]  # what travels with the weights, see docs/design.md
    bad_images: dict[int, str]  # what training has met so far, filled by Progress

    def __post_init__(self) -> None:
        self._saved_at = time.monotonic()

    def save_is_due(self, iteration: int) -> bool:
        """Whether the recipe asks for a save after this step; the same on all ranks."""
        every = self.common.save_interval_freq
        return every > 0 and iteration % every == 0

    def save_is_late(self) -> bool:
        """Whether it is time for a save; rank 0 looks at the clock."""
        minutes = (time.monotonic() - self._saved_at) / 60
        return self.world.is_main and minutes > self.common.save_interval_minutes

    def save_state(self, state: TrainState, metrics: list[dict[str, Any]]) -> None:
        """Write training_checkpoint_last.pt."""
        if self.world.is_main:
            content = state.state_dict(metrics)
            for part in ("model_state_dict", "ema_state_dict"):
                if part in content:  # so that the weights in it are as good as those of other files
                    content[part]._metadata[METADATA] = self.metadata | {"epoch": state.epoch}
            save_state(self.folder, content)
        self._saved_at = time.monotonic()

    def after_epoch(self, training: dict[str, float]) -> None:
        """Tell what training measured, evaluate the model and its EMA, save their weights."""
        rates = tuple(group["lr"] for group in self.state.optimizer.param_groups)
        self._tell("Train", Evaluation(training, self.state.images, ()), rates=rates)
        self.state.last = {f"train.{name}": value for name, value in training.items()}
        for which, model in self.state.models().items():
            evaluation = self.evaluator.evaluate(model) if self.evaluator else None
            best = evaluation is not None and self._judge(which, evaluation)
            if evaluation is not None:
                self._tell(STAGES[which], evaluation, best=best, which=which)
                prefix = "val_ema." if which == "ema" else "val."
                self.state.last |= {prefix + k: v for k, v in evaluation.metrics.items()}
            self._save_weights(which, model, evaluation, best)

    def _judge(self, which: str, evaluation: Evaluation) -> bool:
        """Whether this is the best so far (ties count, as officially); keeps its metrics."""
        name = self.stats.checkpoint_metric
        if name not in evaluation.metrics:
            measured = ", ".join(evaluation.metrics)
            raise UserError(
                f"stats.checkpoint_metric: no value {name!r}; evaluation gives {measured}"
            )
        value, old = evaluation.metrics[name], self.state.best.get(which)
        if not math.isfinite(value):
            return False
        larger = self.stats.checkpoint_metric_max
        if old is not None and not (value >= old if larger else value <= old):
            return False
        self.state.best[which] = value
        self.state.best_metrics[which] = {"epoch": self.state.epoch} | evaluation.metrics
        return True

    def _save_weights(
        self, which: str, model: nn.Module, evaluation: Evaluation | None, best: bool
    ) -> None:
        if not self.world.is_main:
            return
        metrics = evaluation.metrics if evaluation else {}
        metadata = self.metadata | {"metrics": metrics, "epoch": self.state.epoch}
        for suffix in ("last", "best") if best else ("last",):
            save_weights(self.folder / f"{FILES[which]}_{suffix}.pt", model, metadata)

    def _tell(
        self,
        stage: str,
        evaluation: Evaluation,
        *,
        rates: tuple[float, ...] = (),
        best: bool = False,
        which: str = "model",
    ) -> None:
        self.observers.on_evaluation(
            EvaluationRecord(
                stage=stage,
                epoch=self.state.epoch,
                iteration=self.state.iteration,
                metrics=evaluation.metrics,
                images=evaluation.images,
                lrs=rates,
                best=best,
                best_metric=self.state.best.get(which),
                examples=evaluation.examples,
                reports=evaluation.reports,
            )
        )

    def finish(self) -> dict[str, Any]:
        """Write summary.json; the metrics of checkpoint_best.pt stand at its top level."""
        state = self.state
        best = state.best_metrics.get("model", {})
        if self.evaluator is not None and not best:
            metric = self.stats.checkpoint_metric
            log.warning("%s was never a number: there is no checkpoint_best.pt", metric)
        summary = {name: value for name, value in best.items() if name != "epoch"} | {
            "run": str(self.folder),
            "best": state.best_metrics,
            "last": state.last,
            "epochs": state.epoch,
            "steps": state.iteration,
            "images_seen": state.images,
            "seconds": round(state.seconds, 1),
            "bad_images": len(self.bad_images),
            "parameters": sum(p.numel() for p in state.model.parameters()),
        }
        if self.world.is_main:
            write_json(self.folder / "summary.json", summary)
        self.observers.on_end(summary)
        return summary
