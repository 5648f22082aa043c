"""Mistakes in folders of images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.mistakes.case import Case, all_of, cut, make, remove, write

JPEG = "data/val/a/0.jpg"


def png(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "data/val/a/0.png"), pixels)
    (folder / "data/val/a/0.jpg").unlink()


DATA = [
    Case("no folder is given", ("  root_train: data/train\n", "")),
    Case("the folder is missing", ("data/train", "data/trian")),
    Case("the folder holds no class folders", ("data/train", "data/train/a")),
    Case("an empty class folder", prepare=make("data/train/d")),
    Case("a class without a validation folder", prepare=remove("data/val/b")),
    Case(
        "another number of classes in the recipe",
        ("name: tiny", "name: tiny\n    n_classes: 1000"),
    ),
    Case(
        "too few images",
        prepare=lambda folder: [
            remove(f"data/train/{c}/{i}.jpg")(folder)
            for c in "abc"
            for i in range(6)
            if (c, i) not in (("a", 0), ("b", 0), ("c", 0))
        ],
        words="train recipe.yaml sampler.tail=drop",
    ),
    Case("a truncated JPEG in evaluation", late=True, prepare=cut(JPEG, 0.7)),
    Case("an empty file in evaluation", late=True, prepare=write(JPEG, b"")),
    Case(
        "a text file called .jpg in evaluation",
        late=True,
        prepare=write(JPEG, "<html>404</html>"),
    ),
    Case(
        "a truncated PNG in evaluation",
        late=True,
        prepare=all_of(png, cut("data/val/a/0.png", 0.7)),
    ),
    Case(
        "too many bad images in training",
        late=True,
        prepare=all_of(*[cut(f"data/train/{c}/0.jpg", 0.7) for c in "abc"]),
    ),
    Case(
        "nothing but bad images",
        late=True,
        prepare=all_of(*[cut(f"data/train/{c}/{i}.jpg", 0.7) for c in "abc" for i in range(6)]),
    ),
]
