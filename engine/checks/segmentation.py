"""What `cvnets check` looks at in a segmentation recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from cvnets.models.dense import SegmentationOutput, Segmentor
from data.datasets.segmentation.labels import Labels
from data.loader import Loader, Source
from data.sample import Batch
from data.sampler.plan import plan_evaluation
from engine.checks.finding import Finding
from engine.checks.masks import Masks, Some, classes, files, read_masks
from engine.checks.samples import PICTURE, first_of_training
from engine.kinds import METRICS
from engine.metrics.metric import Observation
from engine.observers.pictures import draw_examples
from engine.parts import build_sampler
from engine.task import Example, Task
from engine.tasks.segmented import Segmented
from loss_fn.output import LossOutput

FED_BACK = 100  # images: one of ADE20K takes a third of a second
PERFECT = 100 - 1e-6
NAMED = 3  # classes in a title


def segmentation_findings(
    task: Task, labels: Labels, sources: Mapping[str, Source], folder: Path
) -> Iterator[Finding]:
    """Masks and their classes, ground truth as predictions, samples of training."""
    masks = {split: read_masks(source.dataset, split) for split, source in sources.items()}
    yield files(masks)
    yield classes(masks, labels)
    for split, source in sources.items():
        if split != "train" and len(masks[split].places):
            yield ground_truth_as_predictions(task, labels, source, split, masks[split])
    if "train" in sources and len(masks["train"].places):
        source = replace(
            sources["train"], dataset=Some(sources["train"].dataset, masks["train"].places)
        )
        yield samples(task, labels, source, folder / PICTURE)


def ground_truth_as_predictions(
    task: Task, labels: Labels, source: Source, split: str, masks: Masks
) -> Finding:
    """Evaluate masks as if a network had been sure of every pixel's class.

    They take the way of every evaluation: transform, collation, `Task.postprocess`, `iou`. The mean
    must be 100 over the classes that occur then; if it is not, the way is broken.
    """
    title, key = f"Ground truth as predictions: {split}", f"dataset.root_{split}"
    places = masks.places[np.unique(np.linspace(0, len(masks.places) - 1, FED_BACK).astype(int))]
    metric = METRICS.build(task.recipe.stats, name="iou")
    occurring: set[int] = set()
    for batch in _one_by_one(task, replace(source, dataset=Some(source.dataset, places))):
        truth = batch.targets["truth"][0]
        outputs = _sure(truth, len(labels))
        found = task.postprocess(Segmentor(), outputs, batch)
        nothing = LossOutput(torch.zeros(()))
        metric.update(Observation(outputs, batch.targets, nothing, 1, predictions=found))
        occurring |= set(truth.unique().tolist()) & set(range(len(labels)))
    if not occurring:
        return Finding(title, problems=(f"{key}: no labelled pixel in {len(places)} images",))
    as_zero = task.recipe.stats.iou.absent_classes == "zero"  # type: ignore[attr-defined]
    iou = metric.result([metric.state()])[""]
    best = len(occurring) / len(labels) if as_zero else 1.0
    lines = [f"mIoU {iou / best:.2f} % over {len(occurring)} classes in {len(places)} images"]
    absent = int((masks.counts[:, list(labels.raw)].sum(axis=0) == 0).sum())
    if as_zero and absent and masks.whole:
        most = 100 * (1 - absent / len(labels))
        lines.append(
            f"{absent} classes do not occur and count as 0 (stats.iou.absent_classes), so mIoU is "
            f"at most {most:.1f} %"
        )
    problems = []
    if not iou / best >= PERFECT:
        problems.append(f"{key}: ground truth as predictions has mIoU {iou / best:.2f}, not 100")
    return Finding(title, tuple(lines), tuple(problems), {"iou": iou / best, "images": len(places)})


def _one_by_one(task: Task, source: Source) -> Iterator[Batch]:
    """The batches of an evaluation, of one image each."""
    base = build_sampler(task.recipe, 1).base
    with closing(Loader(source).evaluation(plan_evaluation(len(source), base))) as batches:
        yield from batches


def _sure(truth: torch.Tensor, classes: int) -> SegmentationOutput:
    """Logits at the size of a mask, uint8 [H, W]; pixels without a class are the first one's."""
    known = torch.where(truth < classes, truth, 0).long()
    logits = F.one_hot(known, classes).permute(2, 0, 1)[None].float()
    return SegmentationOutput(logits, None, (truth.shape[0], truth.shape[1]))


def samples(task: Task, labels: Labels, source: Source, path: Path) -> Finding:
    """Draw the first images of a training, after augmentation, under the colours of their masks."""
    found, unreadable = first_of_training(task, source)
    draw_examples(tuple(_drawn(labels, source, batch, place) for batch, place in found), path)
    line = f"{len(found)} images as training sees them, under their masks: {path}"
    return Finding("Samples", (line,), unreadable, {"picture": path.name})


def _drawn(labels: Labels, source: Source, batch: Batch, place: int) -> Example:
    """An image of a training batch under its mask."""
    image = np.ascontiguousarray(batch.images[place].permute(1, 2, 0).numpy())
    segmented = Segmented(batch.targets["mask"][place].numpy(), labels)
    left_out = float((segmented.classes >= len(labels)).mean())
    name = Path(source.dataset.describe(batch.ids[place])).name
    most = ", ".join(list(segmented.shares())[:NAMED]) or "no class"
    title = f"{name}\n{image.shape[0]}x{image.shape[1]}, {left_out:.0%} left out\n{most}"
    return Example(segmented.draw(image, 0.0), title, True)
