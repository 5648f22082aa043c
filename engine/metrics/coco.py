"""COCO's average precision of detections."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from torch import Tensor

from config.errors import UserError
from config.options import OPERATIONAL, Options
from data.datasets.detection.categories import Categories
from data.datasets.detection.objects import Truth
from engine.kinds import METRICS
from engine.metrics.coco_evaluation import (
    DETECTION,
    FIGURES,
    NOTHING,
    OBJECT,
    CocoEvaluation,
    Seen,
    evaluate,
    join,
    library,
)
from engine.metrics.coco_report import CocoReport
from engine.metrics.metric import Observation

log = logging.getLogger(__name__)


class ImageDetections(NamedTuple):
    """What was found in one image.

    `boxes` float64 [n, 4] (x, y, width, height) in pixels of the original image, `scores` float64
    [n], `labels` int64 [n] from 1 on; `image_id` is the data set's.
    """

    image_id: int
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


class CocoMapOptions(Options):
    """`stats.coco_map`: the official evaluation of COCO."""

    iou_types: tuple[str, ...] = Field(
        ("bbox",), min_length=1, description="what is compared: bbox, the boxes"
    )
    backend: Literal["pycocotools", "faster-coco-eval"] = Field(
        "pycocotools",
        description="library that evaluates; faster-coco-eval, if installed, needs less time",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="after")
    def _boxes_only(self) -> CocoMapOptions:
        for name in self.iou_types:
            if name != "bbox":
                raise ValueError(
                    f"iou_types: {name!r} cannot be measured, since detectors give boxes, no masks "
                    "and no keypoints; leave it at bbox"
                )
        return self


@METRICS.register("coco_map", key="coco_map", options=CocoMapOptions)
class CocoMap:
    """COCO's average precision in percent: bbox (IoU 0.5 to 0.95), bbox_50, bbox_75, by size, ar_100.

    `predictions` are ImageDetections and `targets["truth"]` Truth, one per image. All figures are
    those of COCOeval (Lin et al. 2014, cocodataset.org), nan where COCO says -1: no such objects.
    """

    task = "detection"
    parts = tuple(FIGURES)
    larger_is_better = True

    def __init__(self, options: CocoMapOptions):
        self._library = library(options.backend)  # missing: known before the first epoch
        self._pending: list[Seen] = []
        self._seen = NOTHING
        self._evaluated: tuple[list[Seen], CocoEvaluation] | None = None

    def update(self, seen: Observation) -> None:
        if seen.training:
            raise UserError(
                "stats.train: coco_map measures detections, and training makes none; take it out, "
                "and put it in stats.val"
            )
        truths = seen.targets.get("truth") if isinstance(seen.targets, Mapping) else None
        if truths is None or seen.predictions is None:
            raise UserError(
                "stats.val: coco_map measures detections, and this task makes none; take it out"
            )
        for found, truth in zip(seen.predictions, truths, strict=True):
            if found.image_id != truth.image_id:
                raise ValueError(
                    f"detections of image {found.image_id} and truth of {truth.image_id}"
                )
            self._pending.append(_rows(found, truth))

    def step(self, gradient_norm: Tensor) -> None:
        pass

    def state(self) -> Seen:
        if self._pending:
            self._seen = join([self._seen, *self._pending])
            self._pending.clear()
        return self._seen

    def result(self, states: Sequence[Seen]) -> dict[str, float]:
        return self._evaluate(states).figures()

    def report(self, states: Sequence[Seen], categories: Categories) -> CocoReport:
        """Tables and curves of the same evaluation, which is not repeated after `result`."""
        return CocoReport(self._evaluate(states), categories)

    def _evaluate(self, states: Sequence[Seen]) -> CocoEvaluation:
        if self._evaluated is None or not _same(self._evaluated[0], states):
            self._evaluated = (list(states), evaluate(join(states), self._library))
        return self._evaluated[1]


def _same(some: Sequence[Seen], others: Sequence[Seen]) -> bool:
    """Whether these are the very same objects."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _rows(found: ImageDetections, truth: Truth) -> Seen:
    """One image as tables.

    pycocotools finds that a box of nan overlaps with everything. Here a detection that is not
    finite is none, and such an object has no size, so that nothing matches it.
    """
    good = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
    if not good.all():
        log.warning(
            "coco_map: image id %d: %d of %d detections are not finite and do not count",
            truth.image_id,
            np.count_nonzero(~good),
            len(good),
        )
    detections = np.empty(np.count_nonzero(good), DETECTION)
    detections["image"], detections["label"] = truth.image_id, found.labels[good]
    detections["box"], detections["score"] = found.boxes[good], found.scores[good]
    objects = np.empty(len(truth.boxes), OBJECT)
    objects["image"], objects["label"] = truth.image_id, truth.labels
    objects["area"], objects["crowd"] = np.nan_to_num(truth.area, nan=0.0), truth.crowd
    finite = np.isfinite(truth.boxes).all(axis=1, keepdims=True)
    objects["box"] = np.where(finite, truth.boxes, 0.0)
    return Seen(np.array([truth.image_id]), detections, objects)
