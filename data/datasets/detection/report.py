"""What an annotation file holds that training does not use as it stands, with examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.datasets.detection.annotations import Annotations
from data.datasets.detection.objects import Numbers, usable

EXAMPLES = 3
# what to say of one box, and of several
_CLIPPED = (
    "box reaches outside of its image and is clipped",
    "boxes reach outside of their image and are clipped",
)
_OUTSIDE = (
    "box lies outside of its image and is dropped",
    "boxes lie outside of their image and are dropped",
)
_DEGENERATE = (
    "box has no width or height and is dropped",
    "boxes have no width or height and are dropped",
)
_CROWDS = (
    "box of a crowd is ignored in training and evaluation",
    "boxes of crowds are ignored in training and evaluation",
)


class Example(NamedTuple):
    """An annotation: its id, the file name of its image, its box (x, y, width, height)."""

    annotation: int
    image: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """How many boxes there are of a kind, and the first of them."""

    count: int
    examples: tuple[Example, ...]

    def line(self, one: str, many: str) -> list[str]:
        """One line, or none if there is no such box."""
        if not self.count:
            return []
        shown = ", ".join(
            f"annotation {annotation} of {image} [{', '.join(f'{n:g}' for n in box)}]"
            for annotation, image, box in self.examples
        )
        return [f"{self.count} {one if self.count == 1 else many}, e.g. {shown}"]


@dataclass(frozen=True)
class AnnotationReport:
    """Counts of a split. `objects` are used in training, the other boxes clipped or left out.

    `without_objects`: images that are kept though no object is left; `left_out`: images that are
    not used because they have no annotation record.
    """

    images: int
    objects: int
    without_objects: int
    left_out: int
    clipped: Finding
    outside: Finding
    degenerate: Finding
    crowds: Finding

    def lines(self) -> list[str]:
        """The counts, and a line for every kind of box or image that is treated specially."""
        lines = [f"{self.images} images with {self.objects} objects"]
        if self.without_objects:
            lines.append(f"{_images(self.without_objects)} without an object")
        if self.left_out:
            lines.append(f"{_images(self.left_out)} left out: no annotation record")
        for finding, one, many in (
            (self.clipped, *_CLIPPED),
            (self.outside, *_OUTSIDE),
            (self.degenerate, *_DEGENERATE),
            (self.crowds, *_CROWDS),
        ):
            lines += finding.line(one, many)
        return lines


def examine(annotations: Annotations, left_out: int) -> AnnotationReport:
    """Look at all boxes; where the size of an image is unknown, none lies outside of it."""
    counts = np.diff(annotations.offsets)
    owners = np.repeat(np.arange(len(counts)), counts)
    sizes = np.where(annotations.sizes > 0, annotations.sizes, np.inf)[owners]
    boxes, single = annotations.boxes, ~annotations.crowd
    corners, good = usable(boxes, sizes[:, 0], sizes[:, 1])
    with np.errstate(invalid="ignore", over="ignore"):  # of boxes with infinite numbers
        given = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).astype(np.float32)
    sound = np.all(np.isfinite(boxes), 1) & np.all(given[:, 2:] > given[:, :2], 1)
    used = good & single
    finding = partial(_finding, annotations, owners)
    return AnnotationReport(
        images=len(counts),
        objects=int(used.sum()),
        without_objects=int((np.bincount(owners[used], minlength=len(counts)) == 0).sum()),
        left_out=left_out,
        clipped=finding(used & np.any(corners != given, 1)),
        outside=finding(sound & ~good & single),
        degenerate=finding(~sound & single),
        crowds=finding(~single),
    )


def _finding(annotations: Annotations, owners: Numbers, where: npt.NDArray[np.bool_]) -> Finding:
    """The boxes that are marked in `where`; `owners` are the places of their images."""
    places = np.flatnonzero(where)
    examples = tuple(
        Example(
            int(annotations.numbers[place]),
            str(annotations.names[owners[place]]),
            tuple(annotations.boxes[place].tolist()),
        )
        for place in places[:EXAMPLES]
    )
    return Finding(len(places), examples)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
