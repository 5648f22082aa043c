"""The categories of a data set, and the labels that networks know instead of their ids."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from config.errors import UserError

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Categories:
    """Ids and names of categories, given in any order and kept by ascending id.

    The label of a category is the place of its id in this order, counted from 1: ids may start
    anywhere and have gaps, labels never do, and 0 is left for the background. This is the one
    place where ids and labels meet. Raises UserError for an id that occurs twice.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        pairs = sorted(zip(self.ids, self.names, strict=True), key=lambda pair: pair[0])
        ids, names = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        twice = next((one for one, other in pairwise(ids) if one == other), None)
        if twice is not None:
            raise UserError(f"category id {twice} occurs twice; give every category its own id")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, ids: npt.ArrayLike) -> Numbers:
        """Ids -> labels 1..C, int64 of the same shape. UserError for an id that is none."""
        wanted, known = np.asarray(ids, np.int64), np.array(self.ids, np.int64)
        if not np.isin(wanted, known).all():
            unknown = wanted[~np.isin(wanted, known)].flat[0]
            raise UserError(f"no category has the id {unknown}; there are {_shown(self.ids)}")
        return np.searchsorted(known, wanted).astype(np.int64) + 1

    def ids_of(self, labels: npt.ArrayLike) -> Numbers:
        """Labels 1..C -> ids, int64 of the same shape. UserError for a label out of range."""
        wanted = np.asarray(labels, np.int64)
        if ((wanted < 1) | (wanted > len(self))).any():
            wrong = wanted[(wanted < 1) | (wanted > len(self))].flat[0]
            raise UserError(f"label {wrong} is outside 1..{len(self)}, the labels of categories")
        return np.array(self.ids, np.int64)[wanted - 1]


def _shown(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")


_COCO_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, ,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
, backpack, umbrella, , , handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, , wine glass, cup, fork,
knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
chair, couch, potted plant, bed, , dining table, , , toilet, , tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, , book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""
_BY_ID = {n: name.strip() for n, name in enumerate(_COCO_NAMES.split(","), 1) if name.strip()}
COCO = Categories(tuple(_BY_ID), tuple(_BY_ID.values()))
"""The 80 categories of COCO 2017; the gaps in the list are ids that were never used."""
