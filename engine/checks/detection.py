"""What `cvnets check` looks at in a detection recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from data.loader import Source
from data.sample import Batch
from engine.checks.anchors import anchor_recall
from engine.checks.annotations import boxes, classes, collect
from engine.checks.finding import Finding
from engine.checks.ground_truth import ground_truth_as_predictions
from engine.checks.samples import PICTURE, first_of_training
from engine.drawing import draw_boxes
from engine.observers.pictures import draw_examples
from engine.task import Example, Task


def detection_findings(
    task: Task, sources: Mapping[str, Source], folder: Path
) -> Iterator[Finding]:
    """Boxes and classes, ground truth as predictions, recall of the anchors, samples of training."""
    records = {split: collect(source.dataset) for split, source in sources.items()}
    yield boxes(records)
    yield classes(records, task.class_names)
    for split, source in sources.items():
        if split != "train":
            yield ground_truth_as_predictions(task, source, split)
    if "train" in sources:
        yield anchor_recall(task.recipe, records["train"])
        yield samples(task, sources["train"], folder / PICTURE)


def samples(task: Task, source: Source, path: Path) -> Finding:
    """Draw the first images of a training, after augmentation, with their objects."""
    found, unreadable = first_of_training(task, source)
    draw_examples(tuple(_drawn(task, source, batch, place) for batch, place in found), path)
    line = f"{len(found)} images as training sees them, with their objects: {path}"
    return Finding("Samples", (line,), unreadable, {"picture": path.name})


def _drawn(task: Task, source: Source, batch: Batch, place: int) -> Example:
    """An image of a training batch with its boxes."""
    image = np.ascontiguousarray(batch.images[place].permute(1, 2, 0).numpy())
    height, width = image.shape[:2]
    labels = batch.targets["labels"][place].numpy()
    corners = batch.targets["boxes"][place].numpy()[labels > 0] * [width, height, width, height]
    names = [task.class_names[label - 1] for label in labels[labels > 0]]
    name = Path(source.dataset.describe(batch.ids[place])).name
    title = f"{name}\n{height}x{width}, {len(names)} objects"
    return Example(draw_boxes(image, corners, names, None), title, True)
