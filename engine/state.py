"""All that a resume needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from config.errors import UserError
from engine.averaging import Kept
from engine.ema import ModelEma
from engine.precision import Precision

FORMAT = 1


@dataclass
class TrainState:
    """Live objects and counters of a training; saved between optimizer steps only.

    The position is (epoch, step): the next step to take. `iteration` counts optimizer steps of
    the whole run, `images` training images seen, `seconds` the time spent, `nonfinite` the steps
    in a row whose loss was not finite. `metrics` is what each rank had counted in the epoch so
    far. `processes` is how many the run was started with: the plan depends on it for good.
    `samples` and `classes` are the training data's, which have to stay the same.
    `best` holds the best checkpoint metric of "model" and "ema", `kept` what each has of
    checkpoint_score_*.pt, `stale` the epochs since the model's metric became better.
    `origin` is the folder of the state that training goes on from; it is not saved.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    ema: ModelEma | None
    processes: int
    samples: int = 0
    classes: list[str] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    iteration: int = 0
    images: int = 0
    seconds: float = 0.0
    nonfinite: int = 0
    finished: bool = False
    best: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    stale: int = 0
    kept: dict[str, Kept] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    origin: Path | None = None

    _COUNTERS: ClassVar[tuple[str, ...]] = (
        *(
            "processes",
            "samples",
            "classes",
            "epoch",
            "step",
            "iteration",
            "images",
            "seconds",
            "nonfinite",
            "finished",
        ),
        *("best", "best_metrics", "stale", "kept", "last", "metrics"),
    )

    def models(self) -> dict[str, nn.Module]:
        """What is evaluated and saved: "model", and "ema" if there is one."""
        return {"model": self.model} | ({"ema": self.ema.model} if self.ema is not None else {})

    def state_dict(self, metrics: list[dict[str, Any]]) -> dict[str, Any]:
        """The official keys, and ours under "cvnets"; `metrics` is what the epoch has counted."""
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "iterations": self.iteration,
            "best_metric": self.best.get("model"),
            "model_state_dict": self.model.state_dict(),
            "optim_state_dict": self.optimizer.state_dict(),
            "gradient_scaler_state_dict": self.precision.scaler.state_dict(),
            "cvnets": {name: getattr(self, name) for name in self._COUNTERS}
            | {"format": FORMAT, "metrics": metrics},
        }
        if self.ema is not None:
            state["ema_state_dict"] = self.ema.model.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any], path: object) -> None:
        """Continue from a saved state. UserError, naming `path`, if it does not fit the recipe."""
        ours = state.get("cvnets")
        if not isinstance(ours, dict) or "model_state_dict" not in state:
            raise UserError(
                f"{path}: not a training state of this program; weights are for common.finetune"
            )
        if ours.get("format", 0) > FORMAT:
            raise UserError(f"{path}: written by a newer version (format {ours['format']})")
        if (self.ema is not None) != ("ema_state_dict" in state):
            raise UserError(f"{path}: ema.enable differs from the run that is to be resumed")
        for name, word in (("samples", "training samples"), ("classes", "classes")):
            if ours[name] != getattr(self, name):
                raise UserError(
                    f"{path}: the run was started with {_short(ours[name])} {word}, now there are "
                    f"{_short(getattr(self, name))}; the data must stay the same, or start a new run"
                )
        own = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        try:
            self.model.load_state_dict(state["model_state_dict"])
            self.optimizer.load_state_dict(state["optim_state_dict"])
            if self.ema is not None:
                self.ema.model.load_state_dict(state["ema_state_dict"])
        except (RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()
            raise UserError(
                f"{path}: does not fit the recipe's model: {' '.join(first[:2])}"
            ) from None
        for group, options in zip(self.optimizer.param_groups, own, strict=True):
            group.update(options)  # the recipe's, which may have been changed on purpose
        if self.precision.scaler.is_enabled() and state["gradient_scaler_state_dict"]:
            self.precision.scaler.load_state_dict(state["gradient_scaler_state_dict"])
        for name in self._COUNTERS:
            if name in ours:  # a state of an older version lacks what is new
                setattr(self, name, ours[name])


def _short(value: int | list[str]) -> str:
    return str(value) if isinstance(value, int) else f"{len(value)} ({', '.join(value[:4])}, ...)"
