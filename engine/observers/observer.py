"""What an observer is: it gets frozen records, and cannot alter the training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.foreign import ForeignError, foreign
from engine.kinds import OBSERVERS
from engine.settings import CommonOptions
from engine.task import Example, Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRecord:
    """Where training is. `loss` is the mean over images since the last record.

    `lr` is the learning rate, `size` the image (height, width) in pixels of the step,
    `images_per_second` and `data_share` (0 to 1, time waiting for data) count since the last
    record, `eta` is in seconds. `full` is false for records that only refresh a live line.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    iteration: int
    loss: float
    lr: float
    size: tuple[int, int]
    images_per_second: float
    data_share: float
    eta: float
    gradient_norm: float
    accuracy: float | None = None
    full: bool = True


@dataclass(frozen=True)
class EvaluationRecord:
    """An evaluation; `best` if it is the best yet.

    `stage` is "Train", "Val", "Val_EMA", "Val_Copied" (`ema.copy_at_epoch`), "Val_Average" and
    "Val_EMA_Average" (of the best checkpoints, at the end), or "Eval".
    """

    stage: str
    epoch: int
    iteration: int
    metrics: dict[str, float]
    images: int
    lrs: tuple[float, ...] = ()
    best: bool = False
    best_metric: float | None = None
    examples: tuple[Example, ...] = ()
    reports: tuple[Report, ...] = ()


class Observer:
    """Watches a run. Override what you need; all methods do nothing by default."""

    def on_step(self, record: StepRecord) -> None:
        """Called at log points with the progress of training."""

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Called after each pass over a split, training epochs included."""

    def on_end(self, summary: dict[str, Any]) -> None:
        """Called once, with what summary.json holds."""


class Observers(Observer):
    """All observers of a run; one that fails is reported and dropped, training goes on."""

    def __init__(self, members: dict[str, Observer]):
        self._members = members

    def on_step(self, record: StepRecord) -> None:
        self._tell("on_step", record)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        self._tell("on_evaluation", record)

    def on_end(self, summary: dict[str, Any]) -> None:
        self._tell("on_end", summary)

    def _tell(self, event: str, record: object) -> None:
        for name, observer in list(self._members.items()):
            try:
                with foreign(f"observer {name}"):
                    getattr(observer, event)(record)
            except ForeignError as error:
                log.warning("%s; it is dropped, training goes on", error)
                del self._members[name]


def build_observers(
    names: Sequence[str], *, folder: Path, quiet: bool, common: CommonOptions | None = None
) -> Observers:
    """The observers called `names`, with their options of `common` or else the defaults.

    On ranks other than 0 there are none.
    """
    section = CommonOptions() if common is None else common
    members: dict[str, Observer] = {}
    for name in dict.fromkeys(names):
        try:
            with foreign(f"observer {name}"):
                members[name] = OBSERVERS.build(section, name=name, folder=folder, quiet=quiet)
        except ForeignError as error:
            log.warning("%s; it is dropped, training goes on", error)
    return Observers(members)
