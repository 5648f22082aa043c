"""How well the anchors of a detector fit the objects of a data set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from cvnets.kinds import ANCHOR_GENERATORS, MATCHERS
from data.sampler.seeds import permutation
from engine.checks.annotations import Records
from engine.checks.finding import Finding
from engine.parts import build_sampler
from engine.recipe import Recipe

MOST = 20_000  # objects that are looked at
SEED = 0  # that they are drawn with
ELEMENTS = 1 << 22  # of the matrix of overlaps that is held at a time
EPOCHS = 1000  # whose image sizes are asked for, where a run has no end
GOOD = 0.5  # the intersection over union that is reported besides the matcher's threshold
NOTABLE = 0.1  # share of badly matched objects of a kind from which it is named
LOW = 0.8  # share of well matched objects below which there is advice
# COCO's: area of the box, square pixels
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}


class Objects(NamedTuple):
    """n objects: `boxes` float32 [n, 4] corner form in shares of the image; float64 [n] the `area`
    of the box and that of the `image`, square pixels."""

    boxes: Tensor
    area: Tensor
    image: Tensor


@dataclass(frozen=True)
class Recall:
    """Of some objects: the share whose best anchor overlaps at least as the matcher wants it, the
    share with an intersection over union of at least 0.5, the mean of the best ones, and the share
    that has an anchor only because every object claims its best one. None without objects."""

    objects: int
    matched: float | None
    half: float | None
    mean: float | None
    forced: float | None


def recall(best: Tensor, threshold: float) -> Recall:
    """From the intersection over union of each object and its best anchor, [n]."""
    if not len(best):
        return Recall(0, None, None, None, None)
    matched = float((best >= threshold).double().mean())
    half = float((best >= GOOD).double().mean())
    return Recall(len(best), matched, half, float(best.double().mean()), 1 - matched)


def drawn(records: Records) -> Objects:
    """At most MOST objects of the records, at random."""
    chosen = np.sort(permutation(len(records.labels), SEED)[:MOST])
    sizes, corners = records.sizes[records.places[chosen]], records.corners[chosen]
    shares = corners / sizes[:, [1, 0, 1, 0]].astype(np.float32)
    areas = (corners[:, 2:] - corners[:, :2]).astype(np.float64).prod(axis=1)
    images = sizes.prod(axis=1).astype(np.float64)
    return Objects(*(torch.from_numpy(column) for column in (shares, areas, images)))


def best_overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The largest intersection over union of each box with any anchor, [n].

    `boxes` [n, 4] corner form, at least one, `anchors` [N, 4] centre form, in shares of the image.
    """
    corners = box_convert(anchors, "cxcywh", "xyxy")
    rows = max(1, ELEMENTS // len(anchors))
    starts = range(0, len(boxes), rows)
    return torch.cat([box_iou(boxes[i : i + rows], corners).amax(dim=1) for i in starts])


def anchor_recall(recipe: Recipe, records: Records) -> Finding:
    """Recall of the anchors on training objects, at each image size of training."""
    objects = drawn(records)
    if not len(objects.boxes):
        text = "dataset.root_train: no object in any image, so there is nothing to learn"
        return Finding("Anchors", problems=(text,))
    generator = ANCHOR_GENERATORS.build(recipe.anchor_generator)
    threshold = getattr(MATCHERS.build(recipe.matcher), "iou_threshold", GOOD)
    of_all = f"{len(objects.boxes)} of {len(records.labels)}, drawn at random with seed {SEED}"
    lines = [f"training objects: {of_all if len(records.labels) > MOST else 'all'}"]
    figures: dict[str, Any] = {"objects": len(objects.boxes), "threshold": threshold, "sizes": {}}
    sizes = training_sizes(recipe)
    for size in sizes:
        anchors = _anchors(generator, size)
        best = best_overlaps(objects.boxes, anchors)
        rows = _rows(objects, best, size, threshold)
        lines += _table(f"{size[0]}x{size[1]}, {len(anchors)} anchors", rows, threshold)
        found = {name: asdict(part) for name, part in rows.items()}
        figures["sizes"][f"{size[0]}x{size[1]}"] = {"anchors": len(anchors), "recall": found}
        if size == sizes[len(sizes) // 2]:  # in shares of the image anchors hardly depend on it
            figures["advice"] = _advice(objects.boxes, best, anchors, threshold)
    return Finding("Anchors", (*lines, *figures["advice"]), figures=figures)


def training_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """The (height, width) that images have in training, pixels, in all epochs, ascending."""
    sampler = build_sampler(recipe, recipe.dataset.train_batch_size0)
    epochs = min(recipe.scheduler.plan().max_epochs, EPOCHS)
    return sorted({size[:2] for epoch in range(epochs) for size in sampler.sizes(epoch)})


def _anchors(generator: Any, size: tuple[int, int]) -> Tensor:
    """The anchors [N, 4] for images of (height, width); maps are rounded up, as convolutions do."""
    maps = [
        (1, 1) if stride < 0 else (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        for stride in generator.strides
    ]
    anchors: Tensor = generator(maps, dtype=torch.float32, device=torch.device("cpu"))
    return anchors


def _rows(
    objects: Objects, best: Tensor, size: tuple[int, int], threshold: float
) -> dict[str, Recall]:
    """The recall of all objects, and by their size in the original image and in the input."""
    in_input = objects.area * (size[0] * size[1]) / objects.image
    rows = {"all": recall(best, threshold)}
    for where, area in (("original", objects.area), ("input", in_input)):
        for name, (low, high) in SIZES.items():
            rows[f"{name}, {where}"] = recall(best[(area >= low) & (area < high)], threshold)
    return rows


def _table(title: str, rows: dict[str, Recall], threshold: float) -> list[str]:
    levels = {f"IoU >= {threshold:g}": "matched", f"IoU >= {GOOD:g}": "half"}
    columns = levels | {"mean best IoU": "mean", "forced only": "forced"}
    lines = [f"{title:24} {'objects':>9} " + " ".join(f"{name:>13}" for name in columns)]
    for name, row in rows.items():
        values = [getattr(row, column) for column in columns.values()]
        shown = " ".join(
            f"{_shown(column, v):>13}" for column, v in zip(columns, values, strict=True)
        )
        lines.append(f"  {name:22} {row.objects:>9} {shown}")
    return lines


def _shown(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if column == "mean best IoU" else f"{100 * value:.1f} %"


def _advice(boxes: Tensor, best: Tensor, anchors: Tensor, threshold: float) -> list[str]:
    """What to change if many objects fit no anchor, by what they are: small, large or long."""
    missed = boxes[best < threshold]
    if len(missed) <= (1 - LOW) * len(boxes):
        return []
    side, shape = _shape(missed[:, 2:] - missed[:, :2])
    sides, shapes = _shape(anchors[:, 2:])
    # how much a box may differ from an anchor of the same centre: in side, and in shape
    in_side, in_shape = threshold**0.5, ((1 + 1 / threshold) / 2) ** 2
    small, large = side < sides.min() * in_side, side > sides.max() / in_side
    long = ~small & ~large & (shape > shapes.max() * in_shape)
    rest = ~small & ~large & ~long
    key = "anchor_generator.ssd"
    median = float(side[small].median()) if small.any() else 0.0
    causes = (
        (
            small,
            f"are too small for the smallest anchors: lower {key}.min_scale_ratio, e.g. to "
            f"{median:.2g}, the median side of these objects",
        ),
        (large, f"are too large for the largest anchors: raise {key}.max_scale_ratio"),
        (
            long,
            f"are too long or too high for all anchors: add a ratio to {key}.aspect_ratios, e.g. "
            f"{2 * float(shapes.max()):.0f}",
        ),
        (
            rest,
            f"lie between anchors: add a level to {key}.output_strides with a smaller stride, or "
            f"ratios to {key}.aspect_ratios",
        ),
    )
    lines = [f"{len(missed) / len(boxes):.0%} of the objects are matched by force only; of these"]
    for which, text in causes:
        share = float(which.double().mean())
        lines += [f"  {share:.0%} {text}"] if share >= NOTABLE else []
    return lines


def _shape(sides: Tensor) -> tuple[Tensor, Tensor]:
    """From widths and heights [n, 2]: the side of a square of that area, and long over short side."""
    ratio = sides[:, 0] / sides[:, 1]
    return sides.prod(dim=1).sqrt(), torch.maximum(ratio, 1 / ratio)
