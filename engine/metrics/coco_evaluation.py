"""COCO's average precision over tables of detections and objects, exactly as pycocotools has it."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config.errors import UserError

Table = npt.NDArray[Any]

# `box` is (x, y, width, height) in pixels of the image, `area` in square pixels
DETECTION = np.dtype([("image", "i8"), ("label", "i8"), ("box", "f8", 4), ("score", "f8")])
OBJECT = np.dtype(
    [("image", "i8"), ("label", "i8"), ("box", "f8", 4), ("area", "f8"), ("crowd", "?")]
)

# our names of the official figures -> their places in COCOeval.stats
FIGURES = {
    "bbox": 0,
    "bbox_50": 1,
    "bbox_75": 2,
    "bbox_small": 3,
    "bbox_medium": 4,
    "bbox_large": 5,
    "ar_100": 8,
}


class Seen(NamedTuple):
    """Evaluated images (ids, int64 [i]), and the rows of DETECTION and OBJECT that belong to them."""

    images: npt.NDArray[np.int64]
    detections: Table
    objects: Table


NOTHING = Seen(np.empty(0, np.int64), np.empty(0, DETECTION), np.empty(0, OBJECT))


def join(parts: Sequence[Seen]) -> Seen:
    """All images of `parts`, in their order."""
    return Seen(*(np.concatenate(tables) for tables in zip(NOTHING, *parts, strict=True)))


def in_order(seen: Seen) -> Seen:
    """Sorted by image id; rows of one image keep their order, which decides between equal scores.

    UserError for an image that comes twice.
    """
    images = np.sort(seen.images)
    twice = images[1:][images[1:] == images[:-1]]
    if len(twice):
        raise UserError(
            f"coco_map: image id {twice[0]} was evaluated twice, and every image counts once; give "
            "each image of the annotations an id of its own"
        )
    tables = (table[np.argsort(table["image"], kind="stable")] for table in seen[1:])
    return Seen(images, *tables)


@dataclass(frozen=True)
class Library:
    """Where the evaluation comes from: the classes COCO and COCOeval."""

    index: Callable[[], Any]
    evaluation: Callable[..., Any]


def library(backend: str) -> Library:
    """The library called `backend`; UserError if it is not installed."""
    if backend == "pycocotools":
        return Library(COCO, COCOeval)
    try:
        faster = importlib.import_module("faster_coco_eval")
    except ImportError:
        raise UserError(
            "stats.coco_map.backend: faster-coco-eval is not installed; pip install "
            "faster-coco-eval, or leave it at pycocotools"
        ) from None
    # it logs what pycocotools prints
    return Library(
        partial(faster.COCO, print_function=_silent),
        partial(faster.COCOeval_faster, print_function=_silent),
    )


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True)
class CocoEvaluation:
    """What COCOeval accumulates, for the `labels` [K] (ascending) that objects or crowds have.

    precision float64 [10, 101, K, 4, 3]: by IoU 0.5:0.05:0.95, recall 0:0.01:1, class, size (all,
    small, medium, large) and the most detections per image and class (1, 10, 100); recall float64
    [10, K, 4, 3]. Both in 0..1, -1 where there are no objects. `seen` is sorted by image.
    """

    seen: Seen
    labels: tuple[int, ...]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]

    def figures(self, label: int | None = None) -> dict[str, float]:
        """FIGURES in percent, of one class or over all; nan where there are no such objects."""
        places = slice(None) if label is None else [self.labels.index(label)]
        official = COCOeval(iouType="bbox")
        official.eval = {
            "precision": self.precision[:, :, places],
            "recall": self.recall[:, places],
        }
        with redirect_stdout(io.StringIO()):  # it prints its table
            official.summarize()
        values = {name: float(official.stats[place]) for name, place in FIGURES.items()}
        return {name: 100 * v if v >= 0 else math.nan for name, v in values.items()}


def evaluate(seen: Seen, backend: Library) -> CocoEvaluation:
    """The official evaluation (bounding boxes) of everything that was seen, by all ranks.

    Classes are evaluated one after another, as they do not depend on each other: the library turns
    every row into a dictionary, and those of a million detections would take gigabytes. Classes
    without objects count nowhere.
    """
    seen = in_order(seen)
    labels = np.unique(seen.objects["label"]).tolist()
    shape = (10, 101, len(labels), 4, 3)
    precision, recall = np.empty(shape), np.empty(shape[:1] + shape[2:])
    for place, label in enumerate(labels):
        with redirect_stdout(io.StringIO()):
            curves = _evaluate_class(seen, label, backend)
        precision[:, :, place] = curves["precision"][:, :, 0]
        recall[:, place] = curves["recall"][:, 0]
    return CocoEvaluation(seen, tuple(labels), precision, recall)


def _evaluate_class(seen: Seen, label: int, backend: Library) -> dict[str, Any]:
    """COCOeval.eval of one class; images that have nothing of it change nothing and are left out."""
    found = seen.detections[seen.detections["label"] == label]
    objects = seen.objects[seen.objects["label"] == label]
    images = np.union1d(found["image"], objects["image"]).tolist()
    area = found["box"][:, 2] * found["box"][:, 3]
    crowd = objects["crowd"].astype(int)
    truth = _index(backend, images, objects, area=objects["area"], iscrowd=crowd)
    results = _index(
        backend, images, found, area=area, iscrowd=np.zeros(len(found), int), score=found["score"]
    )
    run = backend.evaluation(truth, results, iouType="bbox")
    run.evaluate()
    run.accumulate()
    curves: dict[str, Any] = run.eval
    return curves


def _index(backend: Library, images: list[int], table: Table, **columns: npt.NDArray[Any]) -> Any:
    """A COCO object of rows of one class. Ids count from 1: as a match, 0 means none."""
    columns = {
        "id": np.arange(1, len(table) + 1),
        "image_id": table["image"],
        "category_id": table["label"],
        "bbox": table["box"],
        **columns,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    index = backend.index()
    index.dataset = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": label} for label in np.unique(table["label"]).tolist()],
        "annotations": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    index.createIndex()
    return index
