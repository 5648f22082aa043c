"""Ground truth as predictions: what is annotated goes through the evaluation, which must find all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import box_convert, box_iou

from cvnets.boxes.output import Detections
from cvnets.models.dense import Detector
from data.datasets.detection.objects import Objects, Truth
from data.loader import Loader, Source
from data.sample import Batch
from data.sampler.plan import plan_evaluation
from engine.checks.annotations import without_decoding
from engine.checks.finding import Finding
from engine.kinds import METRICS
from engine.metrics.coco import ImageDetections
from engine.metrics.metric import Observation
from engine.parts import build_sampler
from engine.task import Task
from loss_fn.output import LossOutput

PERFECT = 100 - 1e-6
STRICTEST = 0.95  # of the thresholds of intersection over union that AP is the mean over
COUNTED = 100  # detections of a class that the official evaluation counts in an image
THIN = 0.01  # pixels
EXAMPLES = 3

DEGENERATE = "boxes without width or height match nothing; repair or remove them"
OUTSIDE = (
    "boxes reach outside of their images, where nothing can be found; clip or remove them, or "
    "correct the sizes of the images"
)
OTHER = "objects are evaluated with another box or class than they are learned with"
TOO_MANY = f"some images have more than the {COUNTED} objects of a class that the official evaluation counts"


class Oracle(Detector):
    """Stands in for the network: finds all objects of the targets, and is sure of them."""

    def postprocess(self, output: Any) -> list[Detections]:
        """Targets in the place of an output -> boxes in shares of the image, scores and labels."""
        found = []
        for boxes, labels in zip(output["boxes"], output["labels"], strict=True):
            there = labels > 0
            found.append(Detections(boxes[there], torch.ones(int(there.sum())), labels[there]))
        return found


@dataclass(frozen=True)
class Undecoded:
    """A data set with black images: only their sizes matter here."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], Objects]:
        """A black image of the right size, and its objects."""
        size, objects = without_decoding(self.dataset, index)
        return np.zeros((*size, 3), np.uint8), objects

    def describe(self, index: int) -> str:
        """The path of the image."""
        path: str = self.dataset.describe(index)
        return path


@dataclass
class Missed:
    """What keeps AP from being perfect: how often each reason occurs, and where first."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        if self.counts[reason] <= EXAMPLES:
            self.examples.setdefault(reason, []).append(example)

    def look(self, found: ImageDetections, truth: Truth, size: tuple[int, int], image: str) -> None:
        """Count the objects of an image of (height, width) that are not found."""
        for index in np.flatnonzero(~truth.crowd & ~_reached(found, truth)).tolist():
            numbers = ", ".join(f"{number:g}" for number in truth.boxes[index])
            self.add(_reason(truth.boxes[index], size), f"{image} [{numbers}]")
        for count in Counter(truth.labels[~truth.crowd].tolist()).values():
            if count > COUNTED:
                self.add(TOO_MANY, f"{image} with {count}")

    def lines(self) -> list[str]:
        """One for each reason."""
        return [
            f"{reason} ({count}, e.g. {', '.join(self.examples[reason])})"
            for reason, count in self.counts.items()
        ]


def ground_truth_as_predictions(task: Task, source: Source, split: str) -> Finding:
    """Evaluate the targets of a split as if a network had found them, all with score 1.

    They take the way of every evaluation: transform, collation, `Task.postprocess`, `coco_map`.
    AP must be 100 then; if it is not, no network can reach it, or the way is broken.
    """
    title, key = f"Ground truth as predictions: {split}", f"dataset.root_{split}"
    metric = METRICS.build(task.recipe.stats, name="coco_map")
    missed, objects = Missed(), 0
    for batch, found in _fed_back(task, source, split):
        nothing = LossOutput(torch.zeros(()))
        metric.update(Observation(None, batch.targets, nothing, len(batch), predictions=found))
        for place, truth in enumerate(batch.targets["truth"]):
            name = Path(source.dataset.describe(batch.ids[place])).name
            missed.look(found[place], truth, batch.sizes[place], name)
            objects += int((~truth.crowd).sum())
    if not objects:
        return Finding(title, problems=(f"{key}: no object in any image, so there is no AP",))
    ap = metric.result([metric.state()])["bbox"]
    line = f"AP {ap:.2f} %, {objects} objects in {len(source)} images"
    problems: list[str] = []
    if not ap >= PERFECT:
        start = f"{key}: ground truth as predictions has AP {ap:.2f} instead of 100"
        problems = [f"{start}: {reason}" for reason in missed.lines()] or [start]
    return Finding(title, (line,), tuple(problems), {"ap": ap, "missed": dict(missed.counts)})


def _fed_back(
    task: Task, source: Source, split: str
) -> Iterator[tuple[Batch, list[ImageDetections]]]:
    """The batches of an evaluation, and what an oracle says of them."""
    data = task.recipe.dataset
    base = build_sampler(
        task.recipe, data.eval_batch_size0 if split == "test" else data.val_batch_size0
    ).base
    plan = plan_evaluation(len(source), base)
    loader = Loader(replace(source, dataset=Undecoded(source.dataset)))
    oracle = Oracle()
    with closing(loader.evaluation(plan)) as batches:
        for batch in batches:
            yield batch, task.postprocess(oracle, batch.targets, batch)


def _reached(found: ImageDetections, truth: Truth) -> npt.NDArray[np.bool_]:
    """Which records, bool [k], some detection of the same class matches at every threshold."""
    boxes, others = (
        box_convert(torch.from_numpy(np.asarray(b, np.float64)), "xywh", "xyxy")
        for b in (truth.boxes, found.boxes)
    )
    overlaps = box_iou(boxes, others).numpy()  # nan, where a box has no area, is below everything
    same = truth.labels[:, None] == found.labels[None]
    reached: npt.NDArray[np.bool_] = (same & (overlaps >= STRICTEST)).any(axis=1)
    return reached


def _reason(box: npt.NDArray[np.float64], size: tuple[int, int]) -> str:
    """Why the box (x, y, w, h) stays unfound in an image of (height, width)."""
    if not np.isfinite(box).all() or min(box[2:]) < THIN:
        return DEGENERATE
    left, top, width, height = box.tolist()
    across = min(left + width, size[1]) - max(left, 0)
    down = min(top + height, size[0]) - max(top, 0)
    inside = max(across, 0) * max(down, 0) / (width * height)
    return OUTSIDE if inside < STRICTEST else OTHER
