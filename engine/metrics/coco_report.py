"""What an evaluation of detections leaves to look at: the results file, a table, curves."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from data.datasets.detection.categories import Categories
from engine.checkpoint import write_atomically, write_text
from engine.figures import new_figure, save_figure
from engine.metrics.coco_evaluation import CocoEvaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = {  # of per_class.csv -> the figures of CocoEvaluation
    "AP": "bbox",
    "AP50": "bbox_50",
    "AP75": "bbox_75",
    "AP_small": "bbox_small",
    "AP_medium": "bbox_medium",
    "AP_large": "bbox_large",
    "AR100": "ar_100",
}
PANELS = {"bbox_50": (0, "IoU 0.5"), "bbox_75": (5, "IoU 0.75")}  # place among the thresholds
FEW = 8  # so many classes are told apart by their colours; of more, the best and worst are named
BEST, WORST = ("#1b9e77", "#66c2a5", "#a6d854"), ("#fdae61", "#f46d43", "#c1121f")
LONGEST = 30  # characters of a name in the picture
CHUNK = 10_000  # rows that are text at the same time


@dataclass(frozen=True)
class CocoReport:
    """Tables and curves of one evaluation; `categories` say what the labels are."""

    evaluation: CocoEvaluation
    categories: Categories

    def lines(self) -> list[str]:
        """What was counted, AP by overlap and size, the best and the worst classes; percent."""
        seen = self.evaluation.seen
        crowds = np.count_nonzero(seen.objects["crowd"])
        value = {name: _shown(figure) for name, figure in self._overall.items()}
        lines = [
            f"{len(seen.images)} images, {len(seen.objects) - crowds} objects, {crowds} crowds, "
            f"{len(seen.detections)} detections",
            f"AP {value['bbox']} | at IoU 0.5 {value['bbox_50']}, at 0.75 {value['bbox_75']} | "
            f"small {value['bbox_small']}, medium {value['bbox_medium']}, large "
            f"{value['bbox_large']} | AR of 100 detections {value['ar_100']}",
        ]
        ranked = self._ranked("bbox")
        if len(ranked) > FEW:
            best, worst = ranked[: len(BEST)], ranked[::-1][: len(WORST)]
            lines.append(f"best classes: {_listed(best)} | worst: {_listed(worst)}")
        elif ranked:
            lines.append(f"classes: {_listed(ranked)}")
        return lines

    def write(self, folder: Path) -> None:
        """Write detections.json, per_class.csv and precision_recall.png; each appears whole.

        detections.json has COCO's format of results and all digits, so that
        `COCO(annotations).loadRes` and COCOeval find the same AP in it. per_class.csv is in
        percent; a figure is empty where there are no such objects.
        """
        write_atomically(folder / "detections.json", self._write_detections)
        write_text(folder / "per_class.csv", self._table())
        save_figure(self.figure(), folder / "precision_recall.png")

    def figure(self) -> Figure:
        """Precision over recall, of every class and the mean over them, at two overlaps."""
        figure = new_figure(13, 4.6)
        panels: Sequence[Axes] = figure.subplots(1, len(PANELS))
        for panel, (name, (threshold, title)) in zip(panels, PANELS.items(), strict=True):
            self._draw_curves(panel, name, threshold)
            panel.set(title=title, xlabel="recall", ylabel="precision")
            panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
            panel.grid(alpha=0.3)
        return figure

    @cached_property
    def _overall(self) -> dict[str, float]:
        return self.evaluation.figures()

    @cached_property
    def _by_label(self) -> dict[int, dict[str, float]]:
        return {label: self.evaluation.figures(label) for label in self.evaluation.labels}

    def _ranked(self, figure: str) -> list[tuple[str, float, int]]:
        """(name, percent, label) of the classes with objects, the best first."""
        values = {label: figures[figure] for label, figures in self._by_label.items()}
        rows = [
            (self.categories.names[label - 1], value, label)
            for label, value in values.items()
            if not math.isnan(value)
        ]
        return sorted(rows, key=lambda row: (-row[1], row[2]))

    def _write_detections(self, file: IO[bytes]) -> None:
        table = self.evaluation.seen.detections
        categories = self.categories.ids_of(table["label"])
        file.write(b"[")
        for start in range(0, len(table), CHUNK):
            rows = table[start : start + CHUNK]
            columns = (rows["image"], categories[start : start + CHUNK], rows["box"], rows["score"])
            keys = ("image_id", "category_id", "bbox", "score")
            values = zip(*(column.tolist() for column in columns), strict=True)
            text = json.dumps([dict(zip(keys, row, strict=True)) for row in values])
            file.write(f"{',' if start else ''}\n{text[1:-1]}".encode())
        file.write(b"\n]\n")

    def _table(self) -> str:
        """per_class.csv: every category, also those without objects."""
        seen = self.evaluation.seen
        objects = seen.objects[~seen.objects["crowd"]]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("id", "name", "images", "objects", "detections", *COLUMNS))
        for label, (number, name) in enumerate(
            zip(self.categories.ids, self.categories.names, strict=True), start=1
        ):
            of_class = objects[objects["label"] == label]
            counts = (
                len(np.unique(of_class["image"])),
                len(of_class),
                np.count_nonzero(seen.detections["label"] == label),
            )
            figures = self._by_label.get(label, {})
            values = (figures.get(figure, math.nan) for figure in COLUMNS.values())
            cells = ("" if math.isnan(value) else round(value, 4) for value in values)
            writer.writerow((number, name, *counts, *cells))
        return text.getvalue()

    def _draw_curves(self, panel: Axes, name: str, threshold: int) -> None:
        """All sizes, at most 100 detections per image and class."""
        ranked = self._ranked(name)
        if not ranked:
            panel.text(0.5, 0.5, "no objects", ha="center")
            return
        recall = np.linspace(0, 1, self.evaluation.precision.shape[1])
        places = {label: place for place, label in enumerate(self.evaluation.labels)}
        curves = self.evaluation.precision[threshold, :, :, 0, -1]
        mean = curves[:, [places[label] for _, _, label in ranked]].mean(axis=1)
        text = f"{_shown(self._overall[name])} mean of the classes"
        panel.plot(recall, mean, color="black", lw=3, label=text, zorder=3)
        many = [*BEST, *[None] * (len(ranked) - len(BEST + WORST)), *WORST]
        for rank, (text, value, label) in enumerate(ranked):
            color = many[rank] if len(ranked) > FEW else f"C{places[label]}"
            curve = curves[:, places[label]]
            if color is None:
                panel.plot(recall, curve, color="#bbbbbb", lw=0.6, zorder=1)
            else:
                named = f"{_shown(value)} {text[:LONGEST]}"
                panel.plot(recall, curve, color=color, lw=1.4, label=named, zorder=2)
        legend = panel.legend(
            title="AP (%)", frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
        )
        for entry in legend.get_texts():
            entry.set_parse_math(False)  # a $ in a name is a dollar


def _listed(rows: Sequence[tuple[str, float, int]]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value, _ in rows)


def _shown(figure: float) -> str:
    return "-" if math.isnan(figure) else f"{figure:.1f}"
