"""What a run leaves behind: checkpoints, the best of them, summary.json."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from config.errors import UserError
from cvnets.weights.files import METADATA
from engine.averaging import Kept, average_of, carry_over, keep_best, present
from engine.checkpoint import save_state, save_weights, write_json, write_weights
from engine.distributed import World, barrier, gather
from engine.evaluator import Evaluation, Evaluator
from engine.observers.observer import EvaluationRecord, Observers
from engine.settings import CommonOptions, StatsOptions
from engine.state import TrainState

log = logging.getLogger(__name__)

FILES = {"model": "checkpoint", "ema": "checkpoint_ema"}
STAGES = {"model": "Val", "ema": "Val_EMA"}
COPIED, AVERAGE = "Val_Copied", "_Average"


@dataclass
class Results:
    """Evaluates after each epoch, on all ranks; rank 0 writes the files.

    Of a run that goes on from the state of another folder it first copies the best weights of
    that, which may stay the best.
    """

    folder: Path
    state: TrainState
    evaluator: Evaluator | None
    observers: Observers
    world: World
    common: CommonOptions
    stats: StatsOptions
    metadata: dict[str, Any]  # what travels with the weights, see docs/design.md
    bad_images: dict[int, str]  # what training has met so far, filled by Progress
    averages: dict[str, dict[str, float]] = field(default_factory=dict)  # which -> its metrics

    def __post_init__(self) -> None:
        self._saved_at = time.monotonic()
        if self.state.origin is not None:
            self._carry_over(self.state.origin)

    def _carry_over(self, source: Path) -> None:
        """Copy what the state says is best and kept; it forgets what is not there, on all ranks."""
        state, missing = self.state, []
        if self.world.is_main and source.resolve() != self.folder.resolve():
            names = [f"{FILES[which]}_best.pt" for which in state.best]
            names += [entry["file"] for kept in state.kept.values() for entry in kept]
            missing = carry_over(names, source, self.folder)
        missing = gather(missing, self.world)[0]
        if not missing:
            return
        log.warning("not in %s, and forgotten: %s", source, ", ".join(missing))
        for which, kept in state.kept.items():
            state.kept[which] = [entry for entry in kept if entry["file"] not in missing]
        for which, stem in FILES.items():
            if f"{stem}_best.pt" in missing:
                del state.best[which], state.best_metrics[which]

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
        if self.out_of_patience():
            metric, best_epoch = self.stats.checkpoint_metric, self.state.epoch - self.state.stale
            log.info(
                "stopped early: %s is not better than in epoch %d since %d epochs (stats.patience)",
                metric,
                best_epoch + 1,
                self.state.stale,
            )

    def out_of_patience(self) -> bool:
        """Whether `stats.patience` ends training: the metric of the model has not become better."""
        return self.stats.patience is not None and self.state.stale >= self.stats.patience

    def after_copy(self) -> None:
        """Evaluate and save the model that the average was copied to; it is no best checkpoint."""
        evaluation = self.evaluator.evaluate(self.state.model) if self.evaluator else None
        if evaluation is not None:
            self._tell(COPIED, evaluation)
            self.state.last |= {f"val.{k}": v for k, v in evaluation.metrics.items()}
        if self.world.is_main:
            metadata = self._about(evaluation)
            save_weights(self.folder / f"{FILES['model']}_last.pt", self.state.model, metadata)

    def after_training(self) -> None:
        """Evaluate the averages of the best checkpoints; on all ranks."""
        barrier(self.world)  # rank 0 may still write what the others read
        for which, model in self.state.models().items():
            kept = present(self.folder, self.state.kept.get(which, []))
            weights = average_of(self.folder, kept)
            if weights is None or self.evaluator is None:
                continue
            averaged = copy.deepcopy(model)
            averaged.load_state_dict(weights)
            evaluation = self.evaluator.evaluate(averaged)
            self.averages[which] = evaluation.metrics
            stage = STAGES[which] + AVERAGE
            self._tell(stage, evaluation, which=which, epoch=self.state.epoch - 1)
            if self.world.is_main:
                self._save_average(which, averaged.state_dict(), kept, evaluation)

    def _judge(self, which: str, evaluation: Evaluation) -> bool:
        """Whether this is the best so far (ties count, as officially); keeps its metrics."""
        name = self.stats.checkpoint_metric
        if name not in evaluation.metrics:
            measured = ", ".join(evaluation.metrics)
            raise UserError(
                f"stats.checkpoint_metric: no value {name!r}; evaluation gives {measured}"
            )
        value, old = evaluation.metrics[name], self.state.best.get(which)
        sign = 1 if self.stats.checkpoint_metric_max else -1
        gain = sign * (value - old) if old is not None else math.inf
        better = math.isfinite(value) and gain > 0
        if which == "model":
            self.state.stale = 0 if better else self.state.stale + 1
        if not (better or gain == 0):
            return False
        self.state.best[which] = value
        self.state.best_metrics[which] = {"epoch": self.state.epoch} | evaluation.metrics
        return True

    def _save_weights(
        self, which: str, model: nn.Module, evaluation: Evaluation | None, best: bool
    ) -> None:
        state, stem, most = self.state, FILES[which], self.common.k_best_checkpoints
        names: list[str] = [f"{stem}_last.pt"]
        surplus: list[str] = []
        if best:
            names.append(f"{stem}_best.pt")
        if self.common.save_all_checkpoints:
            names.append(f"{stem}_epoch{state.epoch}.pt")
        kept = state.kept.setdefault(which, [])
        keeps = best and most > 1
        if keeps:
            name, surplus = keep_best(kept, stem, state.best[which], state.epoch, most)
            names.append(name)
        if not self.world.is_main:
            return
        for name in names:
            save_weights(self.folder / name, model, self._about(evaluation))
        for name in surplus:
            (self.folder / name).unlink(missing_ok=True)
        there = present(self.folder, kept) if keeps else []
        weights = average_of(self.folder, there)
        if weights is not None:
            self._save_average(which, weights, there)

    def _save_average(
        self,
        which: str,
        weights: dict[str, Tensor],
        kept: Kept,
        evaluation: Evaluation | None = None,
    ) -> None:
        """Write the mean of the `kept` weights."""
        metadata = self._about(evaluation) | {"averaged": kept, "epoch": kept[-1]["epoch"]}
        write_weights(self.folder / f"{FILES[which]}_avg.pt", weights, metadata)

    def _about(self, evaluation: Evaluation | None) -> dict[str, Any]:
        """What travels with weights: that of the run, and what was measured."""
        metrics = evaluation.metrics if evaluation else {}
        return self.metadata | {"metrics": metrics, "epoch": self.state.epoch}

    def _tell(
        self,
        stage: str,
        evaluation: Evaluation,
        *,
        rates: tuple[float, ...] = (),
        best: bool = False,
        which: str = "model",
        epoch: int | None = None,
    ) -> None:
        self.observers.on_evaluation(
            EvaluationRecord(
                stage=stage,
                epoch=self.state.epoch if epoch is None else epoch,
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
            "average": self.averages,
            "stopped_early": self.out_of_patience(),
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
