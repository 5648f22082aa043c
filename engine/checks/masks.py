"""The masks of a segmentation data set: all are read, and what is in them is counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from config.errors import UserError
from data.datasets.segmentation.labels import Labels
from data.datasets.segmentation.segments import Segments
from data.sampler.seeds import permutation
from engine.checks.finding import Finding

Numbers = npt.NDArray[np.int64]

MOST = 12_000  # images of a split that are read: VOC whole, in about a minute
SEED = 0
THREADS = min(8, os.cpu_count() or 1)
ROWS = 24  # values that are listed; of more, the most frequent and the rarest
EXAMPLES = 3
LINES = 5  # files that have a line of their own
SHOWN = 12  # names of classes


@dataclass(frozen=True)
class Masks:
    """What was read of a split of `images` images.

    `places` int64 [n]: the images that could be read; `counts` int64 [n, 256]: pixels of each raw
    value in them; `names`: their paths; `bad`: why others could not be read, a line each.
    """

    images: int
    places: Numbers
    counts: Numbers
    names: tuple[str, ...]
    bad: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether all images of the split were looked at."""
        return len(self.places) + len(self.bad) == self.images

    @property
    def pixels(self) -> int:
        """All that were read."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Some:
    """A part of a data set."""

    dataset: Any
    places: Numbers

    def __len__(self) -> int:
        return len(self.places)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], Segments]:
        """The image and its labels."""
        image, segments = self.dataset.load(int(self.places[index]))
        return image, segments

    def describe(self, index: int) -> str:
        """The path of the image."""
        path: str = self.dataset.describe(int(self.places[index]))
        return path


def read_masks(dataset: Any, split: str) -> Masks:
    """Read the images and masks of a split, or of a large one MOST, drawn at random."""
    images = len(dataset)
    places = np.arange(images)
    if images > MOST:
        places = np.sort(permutation(images, SEED)[:MOST])

    def read(place: int) -> Numbers | str:
        try:
            _, segments = dataset.load(place)
        except UserError as error:
            return str(error)
        return np.bincount(segments.raw.ravel(), minlength=256)

    with ThreadPoolExecutor(THREADS) as pool:
        shown = track(
            pool.map(read, places.tolist()),
            f"masks of {split}",
            total=len(places),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        found = list(shown)
    good = [number for number, one in enumerate(found) if not isinstance(one, str)]
    return Masks(
        images,
        places[good],
        np.array([found[number] for number in good], np.int64).reshape(-1, 256),
        tuple(str(dataset.describe(int(place))) for place in places[good]),
        tuple(one for one in found if isinstance(one, str)),
    )


def files(splits: Mapping[str, Masks]) -> Finding:
    """Which files cannot be used: unreadable, of another size than the image, unknown values."""
    lines, problems, figures = [], [], {}
    for split, masks in splits.items():
        seen = len(masks.places) + len(masks.bad)
        part = "" if masks.whole else f" (drawn at random of {masks.images}, seed {SEED})"
        lines.append(
            f"{split}: {len(masks.places)} of {seen} images with their masks are fine{part}"
        )
        key = f"dataset.root_{split}"
        problems += [f"{key}: {text}" for text in masks.bad[:LINES]]
        if len(masks.bad) > LINES:
            more = len(masks.bad) - LINES
            problems.append(f"{key}: {more} more of {seen} files are bad, see check.json")
        if not len(masks.places):
            problems.append(f"{key}: no image has a mask that can be used")
        figures[split] = {"images": masks.images, "read": seen, "bad": list(masks.bad)}
    return Finding("Masks", tuple(lines), tuple(problems), figures)


def classes(splits: Mapping[str, Masks], labels: Labels) -> Finding:
    """How many pixels and images each value has in each split; what is left out, and missing."""
    splits = {split: masks for split, masks in splits.items() if masks.pixels}
    lines, problems, figures = [], [], {}
    for split, masks in splits.items():
        labelled = masks.counts[:, list(labels.raw)].sum(axis=1)
        share = 1 - labelled.sum() / masks.pixels
        empty = [Path(masks.names[place]).name for place in np.flatnonzero(labelled == 0)]
        lines.append(f"{split}: {share:.1%} of {masks.pixels} pixels are left out (no class)")
        if empty:
            some = ", ".join(empty[:EXAMPLES])
            lines.append(f"{split}: {len(empty)} images without any labelled pixel, e.g. {some}")
        if len(empty) == len(masks.names):
            problems.append(f"dataset.root_{split}: no image has a labelled pixel")
        figures[split] = _figures(masks, labels) | {"left_out": share, "unlabelled": empty}
    lines += _table(splits, labels)
    missing = {
        split: [
            name
            for name, value in zip(labels.names, labels.raw, strict=True)
            if not masks.counts[:, value].any()
        ]
        for split, masks in splits.items()
    }
    for split, names in missing.items():
        if names:
            where = "" if splits[split].whole else " in those read"
            lines.append(f"{split}: no pixel of {_some(names)}{where}")
    unlearned = [
        name for name in missing.get("train", []) if name not in missing.get("val", [name])
    ]
    if unlearned and splits["train"].whole:
        problems.append(
            f"dataset.root_train: no pixel of {_some(unlearned)} to learn from, but validation "
            "has some; add images of them, or compare the values in the masks of both"
        )
    return Finding("Classes", tuple(lines), tuple(problems), figures)


def _figures(masks: Masks, labels: Labels) -> dict[str, Any]:
    """Pixels of each raw value that occurs; pixels and images of each class."""
    pixels, images = masks.counts.sum(axis=0), (masks.counts > 0).sum(axis=0)
    return {
        "values": {str(value): int(pixels[value]) for value in np.flatnonzero(pixels)},
        "classes": {
            name: {"value": value, "pixels": int(pixels[value]), "images": int(images[value])}
            for name, value in zip(labels.names, labels.raw, strict=True)
        },
    }


def _some(names: Sequence[str]) -> str:
    """The names, or of many the first ones."""
    more = f" and {len(names) - SHOWN} more, see check.json" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _table(splits: Mapping[str, Masks], labels: Labels) -> list[str]:
    """A row per value that occurs, the most frequent first: share of pixels, and images, by split."""
    if not splits:
        return []
    names = dict(zip(labels.raw, labels.names, strict=True))
    names |= dict.fromkeys(labels.ignored, "(left out)")
    pixels = next(iter(splits.values())).counts.sum(axis=0)
    occurring = [value for value in names if any(m.counts[:, value].any() for m in splits.values())]
    order = sorted(occurring, key=lambda value: (-pixels[value], value))
    wide = max(map(len, names.values()))
    heading = " ".join(f"{split + ': pixels':>15} {'images':>9}" for split in splits)
    rows = [f"value {'':{wide}} {heading}"]
    for value in order:
        cells = (
            f"{m.counts[:, value].sum() / m.pixels:>15.2%} {(m.counts[:, value] > 0).sum():>9}"
            for m in splits.values()
        )
        rows.append(f"{value:>5} {names[value]:{wide}} {' '.join(cells)}")
    if len(order) > ROWS:
        left = len(order) - ROWS
        rows[1 + ROWS // 2 : -(ROWS // 2)] = [f"... {left} values between them, see check.json"]
    return rows
