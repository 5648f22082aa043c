"""An observer: watches a run, and cannot change it."""

from __future__ import annotations

import csv
from pathlib import Path

from pydantic import Field

from config.options import Options
from engine.kinds import OBSERVERS
from engine.observers.observer import EvaluationRecord, Observer


class TinyTableOptions(Options):
    """`common.tiny_table`."""

    file: str = Field("table.csv", description="name of the file in the run folder")
    stages: tuple[str, ...] = Field(("Val",), description="of Train, Val and Val_EMA")


@OBSERVERS.register("tiny_table", options=TinyTableOptions)
class TinyTable(Observer):
    """Writes a row per evaluation to a file, for a spreadsheet."""

    def __init__(self, options: TinyTableOptions, *, folder: Path, quiet: bool):
        self.stages, self.path = options.stages, folder / options.file

    def on_evaluation(self, record: EvaluationRecord) -> None:
        """Only the first process has observers, so that there is one writer."""
        if record.stage in self.stages:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([record.stage, record.epoch, *record.metrics.values()])
