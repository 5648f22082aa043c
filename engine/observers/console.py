"""What a person sees: a live line on a terminal, plain lines when piped."""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from config.registry import NoOptions
from engine.kinds import OBSERVERS
from engine.observers.observer import EvaluationRecord, Observer, StepRecord

TERMINAL = Console(highlight=False, soft_wrap=True)


@OBSERVERS.register("console")
class ConsoleObserver(Observer):
    """Progress on the terminal; only evaluations and warnings when quiet."""

    def __init__(self, options: NoOptions, *, folder: Path, quiet: bool):
        self._quiet = quiet
        self._live: Progress | None = None
        if sys.stdout.isatty() and not quiet:
            columns = (BarColumn(bar_width=16), TextColumn("{task.description}"))
            self._live = Progress(*columns, console=TERMINAL, transient=True)
            self._bar = self._live.add_task("starting", total=None)
            self._live.start()
            atexit.register(
                self._live.stop
            )  # an error must not leave the terminal without a cursor

    def on_step(self, record: StepRecord) -> None:
        if self._live is not None:
            self._live.update(
                self._bar, description=step_line(record), total=record.steps, completed=record.step
            )
        elif record.full and not self._quiet:
            print(step_line(record), flush=True)

    def on_evaluation(self, record: EvaluationRecord) -> None:
        if not self._quiet or record.stage == "Eval":
            TERMINAL.print(evaluation_line(record))

    def on_end(self, summary: dict[str, Any]) -> None:
        if self._live is not None:
            self._live.stop()


def step_line(record: StepRecord) -> str:
    """One line of progress, the same for people everywhere."""
    height, width = record.size
    accuracy = f" | top1 {record.accuracy:5.1f} %" if record.accuracy is not None else ""
    return (
        f"epoch {record.epoch + 1}/{record.epochs} step {record.step}/{record.steps} | "
        f"{height}x{width} | loss {record.loss:.4f}{accuracy} | lr {record.lr:.2e} | "
        f"{record.images_per_second:.0f} images/s | data {record.data_share:.0%} | "
        f"ETA {duration(record.eta)}"
    )


def evaluation_line(record: EvaluationRecord) -> str:
    """One line per evaluation."""
    values = " | ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
    images = (
        ""
        if record.stage == "Train"
        else f"evaluated {record.images} of {record.images} unique images | "
    )
    return f"epoch {record.epoch + 1} {record.stage} | {images}{values}{' | best' if record.best else ''}"


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    total = int(seconds)
    hours, rest = divmod(total, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
