"""ADE20K, as in the scene parsing challenge of 2016."""

from __future__ import annotations

from pathlib import Path

from config.errors import UserError
from config.registry import NoOptions
from data.datasets.segmentation.labels import Labels
from data.datasets.segmentation.masked_images import (
    MaskedImages,
    Pair,
    check_files,
    root_folder,
)
from data.images import files_below
from data.kinds import SEGMENTATION_DATASETS

# The first of the words that the official list has for each class, in its order.
_LIST = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person,
earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea,
mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion,
base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace,
refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway,
river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove,
palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light,
truck, tower, chandelier, awning, streetlight, booth, television, airplane, dirt track, apparel,
pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain,
conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent,
bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle,
lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan,
pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
NAMES = tuple(name.strip() for name in _LIST.split(","))
# The published toolkit has colours of its own; these are VOC's, of the same values.
LABELS = Labels.of(NAMES, range(1, len(NAMES) + 1), ignored=(0,))
SUBSETS = {"train": "training", "val": "validation"}
_EXPECTED = "ADEChallengeData2016/ (or the contents of it: images/ and annotations/)"


@SEGMENTATION_DATASETS.register("ade20k")
class ADE20K(MaskedImages):
    """150 classes, 1 to 150 in the files; 0 (other things) is left out.

    `root` is the folder ADEChallengeData2016 or the one that holds it, with `images/training/*.jpg`
    and `annotations/training/*.png`, and the same of `validation`; sorted by name. Raises UserError
    for what is missing.
    """

    def __init__(self, options: NoOptions, *, root: str | None, split: str):
        key = f"dataset.root_{split}"
        base = root_folder(root, key, _EXPECTED)
        inner = base / "ADEChallengeData2016"
        base = inner if inner.is_dir() else base
        subset = SUBSETS["train" if split == "train" else "val"]
        images, masks = base / "images" / subset, base / "annotations" / subset
        names = files_below(images, (".jpg",))
        if not names:
            raise UserError(f"{key}: no image images/{subset}/*.jpg in {base.absolute()}")
        stems = [Path(name).with_suffix("").as_posix() for name in names]
        pairs = [
            Pair(stem, str(images / name), str(masks / f"{stem}.png"))
            for stem, name in zip(stems, names, strict=True)
        ]
        check_files(pairs, key)
        super().__init__(pairs, LABELS, [f"{len(pairs)} images of {images}"])
