"""Object detection."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.errors import UserError
from config.registry import NoOptions
from cvnets.boxes.output import DetectionOutput, Detections
from cvnets.kinds import MATCHERS
from cvnets.models.dense import Detector
from cvnets.weights.preprocessing import Preprocessing
from data.datasets.detection.categories import COCO, Categories
from data.datasets.detection.objects import NO_OBJECTS
from data.kinds import DETECTION_DATASETS
from data.loader import Source, stack
from data.sample import Batch, SampleKey
from data.transforms.detection import (
    DetectionEvaluationTransform,
    DetectionTrainingTransform,
    collate,
    evaluation_size,
)
from engine.backbone import load_backbone
from engine.checks.detection import detection_findings
from engine.checks.finding import Finding
from engine.detector import build_detector
from engine.drawing import draw_boxes
from engine.kinds import TASKS
from engine.metrics.coco import CocoMap, ImageDetections
from engine.pretrained import load_pretrained
from engine.recipe import Recipe
from engine.task import Example, Report, Task
from engine.tasks.detected import Detected
from loss_fn.kinds import DETECTION_LOSSES
from loss_fn.section import LossesSection

log = logging.getLogger(__name__)
SHOWN = 0.3  # least score of the boxes that are drawn


@TASKS.register("detection")
class Detection(Task):
    """Boxes and classes of the objects in an image."""

    kind: ClassVar[str] = "detection"
    pretrained: ClassVar[str] = "model.detection.pretrained"

    def __init__(self, options: NoOptions, *, recipe: Recipe):
        super().__init__(recipe)
        self.categories: Categories | None = None
        self._warned = False

    def check(self) -> None:
        """A detector must be named, and sizes and metrics must fit together."""
        recipe, asked = self.recipe, self.recipe.evaluation.detection
        if not recipe.model.detection.name:
            raise UserError(
                "model.detection.name: dataset.category is detection, so a detector is needed; "
                "set it to ssd"
            )
        if "coco_map" in recipe.stats.train:
            raise UserError(
                "stats.train: coco_map is measured in evaluation only; move it to stats.val"
            )
        if not asked.resize_input_images and recipe.dataset.eval_batch_size0 != 1:
            raise UserError(
                "evaluation.detection.resize_input_images: images keep their own sizes without it, "
                "so they cannot share a batch; set dataset.eval_batch_size0 to 1"
            )

    def build_source(self, split: str) -> Source:
        """Images and their objects; all splits have the same categories, as many as the model."""
        root, known_as = self.split_root(split)
        dataset = DETECTION_DATASETS.build(self.recipe.dataset, root=root, split=known_as)
        self._check_categories(dataset.categories, known_as)
        for line in dataset.report.lines():
            log.info("%s: %s", known_as, line)
        training = split == "train"
        section, resizes = (
            self.recipe.image_augmentation,
            self.recipe.evaluation.detection.resize_input_images,
        )
        transform = (
            DetectionTrainingTransform(section)
            if training
            else DetectionEvaluationTransform(section, own_size=split == "test" and not resizes)
        )
        return Source(dataset, transform=transform, collate=collate, replace_bad=training)

    def _check_categories(self, categories: Categories, split: str) -> None:
        key, asked = self._asked_classes()
        found = len(categories)
        if asked is not None and asked != found + 1:
            raise UserError(
                f"{key}: {asked} in the recipe, but dataset.root_{split} has "
                f"{found} categories and the background counts as well; set it to {found + 1}, "
                "or to null to count them"
            )
        if self.categories is not None and self.categories != categories:
            raise UserError(
                f"dataset.root_{split}: its categories differ from those of the other split: "
                f"{_difference(self.categories, categories)}; both need the same ids and names"
            )
        self.categories, self.class_names = categories, categories.names

    def _asked_classes(self) -> tuple[str, int | None]:
        """The key that gives the number of classes with the background, and the number."""
        if asked := self.recipe.evaluation.detection.num_classes:
            return "evaluation.detection.num_classes", asked
        return "model.detection.n_classes", self.recipe.model.detection.n_classes

    def build_model(self) -> nn.Module:
        """The network of `model.detection`, with pretrained weights of the whole or the backbone."""
        classes = len(self.class_names) + 1 if self.class_names else self._asked_classes()[1]
        if not classes:
            raise UserError("model.detection.n_classes: not given, and there are no data to count")
        weights = self.recipe.model.detection.pretrained
        model = build_detector(self.recipe, classes, partial(load_backbone, self))
        if weights and not self.resumed:
            self.weights = load_pretrained(model, self, self.pretrained, weights)
        if self.categories is None:
            self._assume_categories(classes)
        return model

    def _assume_categories(self, classes: int) -> None:
        """Without data: those of the weights, else COCO's if there are so many, else numbers."""
        known = self.weights.metadata if self.weights else {}
        if len(known.get("classes", ())) == classes - 1:
            self.restore(known)
            return
        self.categories = COCO
        if len(COCO) != classes - 1:
            numbers = tuple(range(1, classes))
            self.categories = Categories(numbers, tuple(map(str, numbers)))
        self.class_names = self.categories.names
        names = "those of COCO" if self.categories is COCO else "numbers"
        log.info("neither data nor weights name the %d classes: %s are taken", classes - 1, names)

    def build_loss(self, section: LossesSection) -> nn.Module:
        """The loss of `loss.detection`."""
        matcher = MATCHERS.build(self.recipe.matcher)
        loss: nn.Module = DETECTION_LOSSES.build(section.detection, matcher=matcher)
        return loss

    def metadata(self) -> dict[str, Any]:
        """The classes, and the ids of their categories."""
        ids = list(self.categories.ids) if self.categories else []
        return super().metadata() | {"category_ids": ids}

    def restore(self, metadata: Mapping[str, Any]) -> None:
        """Know classes and categories from the weights."""
        self.categories = Categories(tuple(metadata["category_ids"]), tuple(metadata["classes"]))
        self.class_names = self.categories.names

    def preprocessing(self) -> Preprocessing:
        """Normalisation as in all tasks; a resize to a fixed size."""
        resize = self.recipe.image_augmentation.resize
        return replace(
            super().preprocessing(), resize=self._size(), interpolation=resize.interpolation
        )

    def _size(self) -> tuple[int, int]:
        """(height, width) of the images of evaluation, pixels."""
        base = self.base_size()
        return evaluation_size(self.recipe.image_augmentation, base.height, base.width)

    def prepare(self, batch: Batch, *, training: bool) -> tuple[Tensor, Any]:
        """Images in [0, 1]; boxes in their type."""
        images = self.scale(batch.images)
        return images, batch.targets | {"boxes": batch.targets["boxes"].to(images.dtype)}

    def postprocess(self, model: nn.Module, outputs: Any, batch: Batch) -> list[ImageDetections]:
        """The objects of each image, boxes (x, y, w, h) in pixels of the original image."""
        found = self._found(model, outputs)
        truths = batch.targets["truth"]
        return [
            ImageDetections(truth.image_id, _as_xywh(_in_pixels(one, size)), *_rest(one))
            for one, truth, size in zip(found, truths, batch.sizes, strict=True)
        ]

    def reports(self, metrics: Mapping[str, Any], states: Sequence[Any]) -> tuple[Report, ...]:
        """AP per class and precision-recall curves, where `coco_map` is measured."""
        metric = metrics.get("coco_map")
        if not isinstance(metric, CocoMap) or self.categories is None:
            return ()
        return (metric.report([state["coco_map"] for state in states], self.categories),)

    def findings(self, sources: Mapping[str, Source], folder: Path) -> Iterable[Finding]:
        """Boxes, classes, ground truth as predictions, recall of the anchors, samples."""
        return detection_findings(self, sources, folder)

    def predict(self, model: nn.Module, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detected]:
        """The objects of each image, resized as in evaluation."""
        key = SampleKey(0, *self._size(), 0)
        transform = DetectionEvaluationTransform(self.recipe.image_augmentation)
        pixels = stack([transform(image, NO_OBJECTS, key).image for image in images])
        device = next(model.parameters()).device
        found = self._found(model, model(self.scale(pixels.to(device))))
        return [
            self._detected(one, image.shape[:2]) for one, image in zip(found, images, strict=True)
        ]

    def _found(self, model: nn.Module, outputs: Any) -> list[Detections]:
        """What was found in each image; that an output is no number is said once."""
        assert isinstance(model, Detector)
        if not self._warned and not _all_finite(outputs):
            self._warned = True
            log.warning("the network gives numbers that are not finite: they detect nothing")
        return _on_cpu(model.postprocess(outputs))

    def _detected(self, one: Detections, size: tuple[int, int]) -> Detected:
        assert self.categories is not None
        scores, labels = _rest(one)
        names = tuple(self.class_names[label - 1] for label in labels)
        return Detected(_in_pixels(one, size), scores, names, self.categories.ids_of(labels))

    def example(self, batch: Batch, predictions: Sequence[ImageDetections], place: int) -> Example:
        """What was found in the image as the network saw it, drawn on it."""
        image = batch.images[place].permute(1, 2, 0).cpu().numpy()
        one = predictions[place]
        kept = one.scores >= SHOWN
        height, width = batch.sizes[place]
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        boxes = one.boxes[kept] * scale
        boxes[:, 2:] += boxes[:, :2]
        names = [self.class_names[label - 1] for label in one.labels[kept]]
        truth = batch.targets["truth"][place]
        expected = np.sort(truth.labels[~truth.crowd])
        right = np.array_equal(np.sort(one.labels[kept]), expected)
        title = f"{kept.sum()} found, {len(expected)} there"
        return Example(draw_boxes(image, boxes, names, one.scores[kept]), title, right)


def _difference(one: Categories, other: Categories) -> str:
    """The first category that is not the same in both."""
    pairs = (
        list(zip(one.ids, one.names, strict=True)),
        list(zip(other.ids, other.names, strict=True)),
    )
    lacking, new = (sorted(set(a) - set(b)) for a, b in (pairs, pairs[::-1]))
    texts = [f"it lacks {lacking[0]}"] if lacking else []
    texts += [f"it has {new[0]} in addition"] if new else []
    return " and ".join(texts)


def _all_finite(outputs: Any) -> bool:
    """Whether no output is nan or infinite; what a detector of one's own gives is not judged."""
    if not isinstance(outputs, DetectionOutput):
        return True
    return all(bool(part.float().sum().isfinite()) for part in (outputs.scores, outputs.boxes))


def _on_cpu(found: Sequence[Detections]) -> list[Detections]:
    """All in one transfer each for boxes, scores and labels."""
    counts = [len(one.scores) for one in found]
    columns = (torch.split(torch.cat(c).cpu(), counts) for c in zip(*found, strict=True))
    return [Detections(*parts) for parts in zip(*columns, strict=True)]


def _in_pixels(one: Detections, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Corner form in pixels of an image of (height, width), clipped to it."""
    height, width = size
    extent = np.array([width, height, width, height], np.float64)
    pixels: npt.NDArray[np.float64] = one.boxes.double().numpy() * extent
    return pixels.clip(0.0, extent)


def _as_xywh(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _rest(one: Detections) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    return one.scores.double().numpy(), one.labels.numpy()
