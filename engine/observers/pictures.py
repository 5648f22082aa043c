"""curves.png and predictions.png."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.registry import NoOptions
from engine.figures import new_figure, save_figure
from engine.kinds import OBSERVERS
from engine.metrics.metric import with_unit
from engine.observers.observer import EvaluationRecord, Observer
from engine.task import Example

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN = {"Train": "training", "Val": "validation", "Val_EMA": "validation, EMA"}
BEST = "best"  # reports on checkpoint_best.pt
SMALL = 80  # pixels: wider images are drawn larger
SECONDS_BETWEEN = 30.0  # drawing takes about a second, which short epochs cannot spare


@OBSERVERS.register("pictures")
class Pictures(Observer):
    """Draws the curves of all metrics over epochs, and what the model says of some images."""

    def __init__(self, options: NoOptions, *, folder: Path, quiet: bool):
        self._folder = folder
        self._lines = read_history(folder / "metrics.jsonl")
        self._examples: tuple[Example, ...] = ()
        self._drawn_at = -math.inf

    def on_evaluation(self, record: EvaluationRecord) -> None:
        if record.stage in DRAWN:
            for name, value in record.metrics.items():
                self._lines.setdefault(name, {}).setdefault(record.stage, {})[record.epoch] = value
        self._examples = record.examples or self._examples
        self._write_reports(record)
        if time.monotonic() - self._drawn_at > SECONDS_BETWEEN:
            self._draw()

    def on_end(self, summary: dict[str, Any]) -> None:
        self._draw()

    def _write_reports(self, record: EvaluationRecord) -> None:
        """Those of the best checkpoint, in a folder beside it; of an evaluation with its results."""
        if record.stage == "Eval" or (record.stage == "Val" and record.best):
            folder = self._folder / ("" if record.stage == "Eval" else BEST)
            for report in record.reports:
                folder.mkdir(exist_ok=True)
                report.write(folder)

    def _draw(self) -> None:
        if self._lines:
            draw_curves(self._lines, self._folder / "curves.png")
        if self._examples:
            draw_examples(self._examples, self._folder / "predictions.png")
        self._drawn_at = time.monotonic()


Lines = dict[str, dict[str, dict[int, float]]]


def read_history(path: Path) -> Lines:
    """Metric -> stage -> epoch -> value of the run so far, from metrics.jsonl."""
    lines: Lines = {}
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            record: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:  # the last line of a process that was killed, or is writing
            continue
        if record["kind"] == "evaluation" and record["stage"] in DRAWN:
            for name, value in record["metrics"].items():
                number = math.nan if value is None else value
                lines.setdefault(name, {}).setdefault(record["stage"], {})[record["epoch"]] = number
    return lines


def draw_curves(lines: Lines, path: Path) -> None:
    """One panel per metric, one line per stage, over epochs (counted from 1).

    Of a metric that has parts only the first value is drawn.
    """
    first = {metric.partition(".")[0]: metric for metric in reversed(lines)}
    lines = {metric: lines[metric] for metric in lines if metric in first.values()}
    figure = new_figure(5.2 * len(lines), 3.8)
    panels = figure.subplots(1, len(lines), squeeze=False)[0]
    for panel, (metric, stages) in zip(panels, lines.items(), strict=True):
        for stage, values in stages.items():
            epochs = sorted(values)
            marker = "o" if len(epochs) < 30 else None
            panel.plot(
                [e + 1 for e in epochs],
                [values[e] for e in epochs],
                marker=marker,
                ms=3,
                label=DRAWN[stage],
            )
        panel.set(xlabel="epoch", ylabel=with_unit(metric))
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
        panel.xaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)


def draw_examples(examples: tuple[Example, ...], path: Path) -> None:
    """A grid of images with their titles; those of mistakes are red."""
    widest = max(example.image.shape[1] for example in examples)
    columns, side = (8, 1.9) if widest <= SMALL else (4, 3.5)
    columns = min(columns, len(examples))
    rows = math.ceil(len(examples) / columns)
    figure = new_figure(side * columns, (side + 0.45) * rows)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    for panel, example in zip(panels, examples, strict=False):
        panel.imshow(example.image, interpolation="nearest")
        panel.set_title(example.title, fontsize=9, color="black" if example.right else "#c1121f")
    save_figure(figure, path)
