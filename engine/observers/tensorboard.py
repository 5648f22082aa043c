"""TensorBoard, with the official tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from config.registry import NoOptions
from engine.kinds import OBSERVERS
from engine.observers.observer import EvaluationRecord, Observer


@OBSERVERS.register("tensorboard")
class TensorBoard(Observer):
    """Writes tb_logs/: `Train/Loss`, `Val/Top1`, `LR/Group-0`, `Common/Best Metric`, per epoch."""

    def __init__(self, options: NoOptions, *, folder: Path, quiet: bool):
        self._writer = SummaryWriter(str(folder / "tb_logs"))

    def on_evaluation(self, record: EvaluationRecord) -> None:
        for name, value in record.metrics.items():
            tag = f"{record.stage}/{name.title()}"
            self._writer.add_scalar(tag, value, record.epoch)
        for group, lr in enumerate(record.lrs):
            self._writer.add_scalar(f"LR/Group-{group}", round(lr, 6), record.epoch)
        if record.stage == "Val" and record.best_metric is not None:
            self._writer.add_scalar(
                "Common/Best Metric", round(record.best_metric, 2), record.epoch
            )
        self._writer.flush()

    def on_end(self, summary: dict[str, Any]) -> None:
        self._writer.close()
