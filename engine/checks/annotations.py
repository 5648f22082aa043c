"""The annotations of a detection data set as tables, read without decoding an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.datasets.detection.objects import Objects
from engine.checks.finding import Finding

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

TOLERANCE = 2.0  # pixels that a box may reach outside of its image: annotations are rounded
SUSPICIOUS = 0.1  # share of boxes that do more, from which other formats are tried
CONVINCING = 0.99  # share of boxes that fit into their images in the format that is meant
ROWS = 24  # classes that are listed; of more, the most frequent and the rarest


@dataclass(frozen=True)
class Records:
    """N images, their K annotation records, and their n objects: the records that can be learned.

    `sizes` int64 [N, 2] (height, width), pixels. Of the records: `owners` int64 [K], the places of
    their images; `boxes` float64 [K, 4] (x, y, w, h), pixels; `crowd` bool [K]. Of the objects:
    `places` int64 [n] of their images; `corners` float32 [n, 4] (x1, y1, x2, y2), pixels, clipped;
    `labels` int64 [n], from 1 on.
    """

    sizes: Numbers
    owners: Numbers
    boxes: Floats
    crowd: npt.NDArray[np.bool_]
    places: Numbers
    corners: npt.NDArray[np.float32]
    labels: Numbers


def collect(dataset: Any) -> Records:
    """The records of all images of a detection data set."""
    found = [without_decoding(dataset, index) for index in range(len(dataset))]
    truths, objects = [one.truth for _, one in found], [one for _, one in found]
    images = np.arange(len(found))
    return Records(
        sizes=np.array([size for size, _ in found], np.int64),
        owners=np.repeat(images, [len(truth.boxes) for truth in truths]),
        boxes=np.concatenate([truth.boxes for truth in truths]),
        crowd=np.concatenate([truth.crowd for truth in truths]),
        places=np.repeat(images, [len(one.labels) for one in objects]),
        corners=np.concatenate([one.boxes for one in objects]),
        labels=np.concatenate([one.labels for one in objects]),
    )


def without_decoding(dataset: Any, index: int) -> tuple[tuple[int, int], Objects]:
    """(height, width) of an image, as recorded or as its file begins with, and its objects.

    Only images of a data set of the user's own that has no `sizes` and `objects`, as
    `CocoDetection` has them, are decoded. ImageError for what is no image.
    """
    if not (hasattr(dataset, "sizes") and hasattr(dataset, "objects")):
        image, objects = dataset.load(index)
        return image.shape[:2], objects
    height, width = dataset.sizes[index].tolist()
    if not (height and width):
        try:
            with Image.open(dataset.describe(index)) as file:
                width, height = file.size
        except OSError:
            height, width = dataset.load(index)[0].shape[:2]  # whose message is better
    return (height, width), dataset.objects(index, height, width)


def boxes(splits: Mapping[str, Records]) -> Finding:
    """Whether the boxes lie in their images, and if not, whether they do in another format."""
    lines, problems, figures = [], [], {}
    for split, records in splits.items():
        if not len(records.boxes):
            lines.append(f"{split}: no box at all")
            continue
        inside = _inside(_from_xywh(records), records)
        figures[split] = {"boxes": len(records.boxes), "inside": inside}
        lines.append(
            f"{split}: {inside:.2%} of {len(records.boxes)} boxes (x, y, width, height) lie in their "
            f"images (up to {TOLERANCE:g} pixels)"
        )
        problems += [f"dataset.root_{split}: {text}" for text in _other_format(records, inside)]
    return Finding("Boxes", tuple(lines), tuple(problems), figures)


def _from_xywh(records: Records) -> Floats:
    return np.concatenate([records.boxes[:, :2], records.boxes[:, :2] + records.boxes[:, 2:]], 1)


def _from_centres(records: Records) -> Floats:
    centres, halves = records.boxes[:, :2], records.boxes[:, 2:] / 2
    return np.concatenate([centres - halves, centres + halves], 1)


# what else tools write
FORMATS: dict[str, Callable[[Records], Floats]] = {
    "(x1, y1, x2, y2)": lambda records: records.boxes,
    "(centre x, centre y, width, height)": _from_centres,
}


def _other_format(records: Records, inside: float) -> list[str]:
    """A line if the numbers are something else than (x, y, width, height) in pixels."""
    if np.nanmax(records.boxes) <= 1:
        return [
            "no number of any box is above 1, so they seem to be shares of the image; COCO's boxes "
            "are pixels: multiply them by width and height"
        ]
    if inside > 1 - SUSPICIOUS:
        return []
    for name, corners in FORMATS.items():
        fitting = _inside(corners(records), records)
        if fitting >= CONVINCING:
            return [
                f"as (x, y, width, height) {1 - inside:.0%} of the boxes reach outside of their "
                f"images, but {fitting:.0%} fit as {name}, so they seem to be that; convert them"
            ]
    return []


def _inside(corners: Floats, records: Records) -> float:
    """The share of boxes (x1, y1, x2, y2) that have an area and lie in their images."""
    extent = records.sizes[records.owners][:, ::-1]
    with np.errstate(invalid="ignore"):
        good = (corners[:, 2:] > corners[:, :2]).all(1) & (corners[:, :2] >= -TOLERANCE).all(1)
        good &= (corners[:, 2:] <= extent + TOLERANCE).all(1)
    return float(good.mean())


def classes(splits: Mapping[str, Records], names: Sequence[str]) -> Finding:
    """How many objects and images each class has in each split, and which have none."""
    lines, counts, figures = [], {}, {}
    for split, records in splits.items():
        images, crowds = len(records.sizes), int(records.crowd.sum())
        empty = images - len(np.unique(records.places))
        counts[split] = _histogram(records, len(names))
        lines.append(
            f"{split}: {len(records.labels)} objects in {images} images; {empty} images without an "
            f"object, {crowds} crowds"
        )
        figures[split] = {"empty_images": empty, "crowds": crowds} | {
            "classes": {
                name: {"objects": int(objects), "images": int(seen)}
                for name, objects, seen in zip(names, *counts[split].T, strict=True)
            }
        }
    lines += _table(counts, names)
    missing = {s: [n for n, c in zip(names, counts[s][:, 0], strict=True) if not c] for s in counts}
    lines += [f"{s}: no object of {', '.join(some)}" for s, some in missing.items() if some]
    unlearned = [n for n in missing.get("train", []) if n not in missing.get("val", [n])]
    problems = []
    if unlearned:
        problems.append(
            f"dataset.root_train: no object of {', '.join(unlearned)} to learn from, but validation "
            "has some; add images of them, or compare the category ids of the two annotation files"
        )
    return Finding("Classes", tuple(lines), tuple(problems), figures)


def _histogram(records: Records, number: int) -> Numbers:
    """int64 [number, 2]: objects of each class, and images with such objects."""
    objects = np.bincount(records.labels - 1, minlength=number)
    pairs = np.unique(np.stack([records.places, records.labels], 1), axis=0)
    images = np.bincount(pairs[:, 1] - 1, minlength=number)
    return np.stack([objects, images], 1).astype(np.int64)


def _table(counts: Mapping[str, Numbers], names: Sequence[str]) -> list[str]:
    """A row per class, the most frequent first: objects and images by split."""
    if not counts:
        return []
    order = np.argsort(-next(iter(counts.values()))[:, 0], kind="stable").tolist()
    wide = max(map(len, names))
    heading = " ".join(f"{split + ': objects':>15} {'images':>9}" for split in counts)
    rows = [f"{'':{wide}} {heading}"]
    for index in order:
        cells = (f"{counts[split][index, 0]:>15} {counts[split][index, 1]:>9}" for split in counts)
        rows.append(f"{names[index]:{wide}} {' '.join(cells)}")
    if len(names) > ROWS:
        left = len(names) - ROWS
        rows[1 + ROWS // 2 : -(ROWS // 2)] = [f"... {left} classes between them, see check.json"]
    return rows
