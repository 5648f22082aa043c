"""metrics.jsonl: one JSON object per line, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config.registry import NoOptions
from engine.checkpoint import finite, write_text
from engine.kinds import OBSERVERS
from engine.observers.observer import EvaluationRecord, Observer, StepRecord


@OBSERVERS.register("jsonl")
class JsonLines(Observer):
    """Appends a line per log point and per evaluation to metrics.jsonl."""

    def __init__(self, options: NoOptions, *, folder: Path, quiet: bool):
        self._path = folder / "metrics.jsonl"

    def on_step(self, record: StepRecord) -> None:
        if record.full:
            values = {name: value for name, value in vars(record).items() if name != "full"}
            self._write({"kind": "step"} | values)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        self._write(
            {
                "kind": "evaluation",
                "stage": record.stage,
                "epoch": record.epoch,
                "iteration": record.iteration,
                "images": record.images,
                "best": record.best,
                "metrics": record.metrics,
            }
        )

    def _write(self, record: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite(record)) + "\n")


def trim_history(folder: Path, *, epoch: int, iteration: int) -> None:
    """Drop records that a run resumed at (epoch, iteration) is going to write again.

    The averages of the best checkpoints are evaluated at the end of each continuation.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # the last line of a process that was killed
            continue
        done = (
            record["iteration"] <= iteration
            if record["kind"] == "step"
            else record["epoch"] < epoch and "Average" not in record["stage"]
        )
        if done:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
