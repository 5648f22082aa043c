"""What an evaluation of segmentation leaves to look at: tables and the confusion matrix."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.checkpoint import write_text
from engine.figures import new_figure, save_figure

FEW = 25  # classes up to which names and numbers are written into the picture
LONGEST = 20  # letters of a name there


@dataclass(frozen=True)
class Confusion:
    """`counts` int64 [C, C]: pixels, or images, of each class (rows) that were taken for which
    (columns)."""

    counts: npt.NDArray[np.int64]

    @property
    def true(self) -> npt.NDArray[np.int64]:
        """Pixels of each class."""
        return self.counts.sum(axis=1)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Pixels that were taken for each class."""
        return self.counts.sum(axis=0)

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each class, 0 .. 1; nan where it does not occur at all."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.true + self.predicted - hits)

    @property
    def accuracy(self) -> npt.NDArray[np.float64]:
        """Share of each class that was found, 0 .. 1; nan where it has no pixels."""
        return _ratio(np.diag(self.counts), self.true)

    def figures(self, absent_as_zero: bool) -> dict[str, float]:
        """Percent: "" the mean intersection over union, the pixels, the mean over classes found."""
        iou = np.nan_to_num(self.iou) if absent_as_zero else self.iou
        hits, pixels = int(np.trace(self.counts)), int(self.counts.sum())
        return {
            "": _mean(iou),
            "pixel_accuracy": 100 * hits / pixels if pixels else math.nan,
            "class_accuracy": _mean(self.accuracy),
        }


@dataclass(frozen=True)
class IouReport:
    """Writes per_class.csv, confusion_matrix.csv and confusion_matrix.png."""

    confusion: Confusion
    names: tuple[str, ...]
    absent_as_zero: bool
    unit: str = "pixels"

    def lines(self) -> list[str]:
        """The best and worst classes; those that do not occur, and what that means."""
        iou = self.confusion.iou
        order = [
            int(place) for place in np.argsort(-iou, kind="stable") if not math.isnan(iou[place])
        ]
        shown = [f"{self.names[place]} {100 * iou[place]:.1f}" for place in order]
        lines = [f"IoU: {', '.join(shown)}"]
        if len(shown) > FEW:
            lines = [f"IoU, best: {', '.join(shown[:5])} | worst: {', '.join(shown[:-6:-1])}"]
        absent = [name for name, value in zip(self.names, iou, strict=True) if math.isnan(value)]
        if absent:
            how = "count as 0" if self.absent_as_zero else "are left out of the mean"
            lines.append(f"{len(absent)} classes do not occur and {how}: {', '.join(absent)}")
        return lines

    def write(self, folder: Path) -> None:
        """Write all of it; figures in percent, empty where a class does not occur."""
        write_text(folder / "per_class.csv", self._per_class())
        rows = [["true \\ predicted", *self.names]]
        rows += [
            [name, *map(str, counts)]
            for name, counts in zip(self.names, self.confusion.counts.tolist(), strict=True)
        ]
        write_text(folder / "confusion_matrix.csv", _table(rows))
        self._draw(folder / "confusion_matrix.png")

    def _per_class(self) -> str:
        matrix = self.confusion
        columns = (matrix.true.tolist(), matrix.predicted.tolist(), matrix.iou, matrix.accuracy)
        unit = self.unit
        rows = [["class", "name", unit, f"predicted_{unit}", "IoU", "accuracy"]]
        for number, (name, true, predicted, iou, accuracy) in enumerate(
            zip(self.names, *columns, strict=True)
        ):
            rows.append(
                [str(number), name, str(true), str(predicted), _shown(iou), _shown(accuracy)]
            )
        return _table(rows)

    def _draw(self, path: Path) -> None:
        """Shares of each class's pixels; the diagonal is what was found."""
        shares = _ratio(self.confusion.counts, self.confusion.true[:, None])
        side = min(14.0, max(4.5, 0.42 * len(self.names) + 2))
        figure = new_figure(side + 1, side)
        panel = figure.subplots()
        image = panel.imshow(100 * shares, vmin=0, vmax=100, cmap="Blues")
        figure.colorbar(image, ax=panel, label=f"% of the {self.unit} of the class", shrink=0.8)
        panel.set(xlabel="predicted", ylabel="true")
        if len(self.names) <= FEW:
            places = range(len(self.names))
            # a $ in a name is a dollar
            names = [name[:LONGEST].replace("$", r"\$") for name in self.names]
            panel.set_xticks(places, names, rotation=90, fontsize=8)
            panel.set_yticks(places, names, fontsize=8)
            for row in places:
                for column in places:
                    if shares[row, column] >= 0.005:
                        color = "white" if shares[row, column] > 0.6 else "black"
                        text = f"{100 * shares[row, column]:.0f}"
                        panel.text(
                            column, row, text, ha="center", va="center", fontsize=7, color=color
                        )
        save_figure(figure, path)


def _ratio(some: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """nan where the whole is 0."""
    return np.divide(some, whole, out=np.full(some.shape, np.nan), where=whole > 0)


def _mean(shares: npt.NDArray[np.float64]) -> float:
    """Of those that are numbers, in percent."""
    numbers = [float(share) for share in shares if not math.isnan(share)]
    return 100 * math.fsum(numbers) / len(numbers) if numbers else math.nan


def _shown(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.4f}"


def _table(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
