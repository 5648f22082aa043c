"""Writes the generated data set in the folder layouts of the real ones."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from config.errors import UserError, suggestion
from data.datasets.segmentation.labels import voc_palette
from data.datasets.shapes.encodings import border, png, polygons, run_lengths
from data.datasets.shapes.outlines import CLASSES
from data.datasets.shapes.pictures import PICTURE_SIZE, SPLITS, classification_image
from data.datasets.shapes.scenes import SCENE_SIZE, Item, Scene, Style, scene

COCO_IDS: tuple[int, ...] = (1, 3, 4, 7, 8, 13, 21, 44)
"""Category ids of `CLASSES` in the coco layout: with gaps, as COCO's are."""

ADE20K_GROUND = len(CLASSES) + 1
"""Value of the ground in masks of the ade20k layout, where every pixel has a class."""

_COCO = Style(crowds=True, empties=True, objects=(3, 10))
_LABELLED = Style(crowds=False, empties=False)
_LEAST_SIZE = 48  # pixels: the forms are unreadable in smaller images


@dataclass(frozen=True)
class _Order:
    """What to generate and where to; sizes in pixels, `counts` images per split."""

    root: Path
    counts: dict[str, int]
    size: int
    seed: int
    quality: int

    def write_jpeg(self, path: Path, image: npt.NDArray[np.uint8]) -> None:
        """Write uint8 [H, W, 3] RGB."""
        # Not imwrite: it fails silently, and on Windows for any folder not in ASCII.
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes())


def generate(
    layout: str,
    out: str | Path,
    *,
    train: int,
    val: int,
    size: int | None = None,
    seed: int = 0,
    quality: int = 92,
) -> None:
    """Write `train` and `val` generated images into the folder `out`, in the given layout.

    Args:
        layout: "imagefolder" (single objects), "coco", "voc" or "ade20k" (scenes).
        out: a folder that is empty or does not exist; it appears only when it is complete.
        train: images of the training split, at least 1, for "imagefolder" one per class.
        val: images of the validation split, likewise; none is a copy of a training image.
        size: side of the images in pixels, at least 48: the mean one for "imagefolder" (default
            96), the longer one for scenes (default 320).
        seed: a number of 0 or more; the same one gives the same files.
        quality: of the JPEG files, 1..100.

    Raises:
        UserError: an argument is out of range, or `out` is a file or has contents.
    """
    out = Path(out).resolve()
    _check(layout, out, train=train, val=val, size=size, seed=seed, quality=quality)
    writer, usual_size = _LAYOUTS[layout]
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    counts = dict(zip(SPLITS, (train, val), strict=True))
    try:
        writer(_Order(partial, counts, size or usual_size, seed, quality))
        if out.exists():
            out.rmdir()  # fails if someone has filled it meanwhile
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(layout: str, out: Path, **numbers: int | None) -> None:
    """Raise UserError for the first argument of `generate` that will not do."""
    if layout not in _LAYOUTS:
        raise UserError(f"layout: no layout {layout!r}; {suggestion(layout, _LAYOUTS)}")
    least = len(CLASSES) if layout == "imagefolder" else 1  # a class needs an image
    limits = {
        "train": (least, 10**6),
        "val": (least, 10**6),
        "size": (_LEAST_SIZE, 4096),
        "seed": (0, 2**63 - 1),
        "quality": (1, 100),
    }
    for name, (low, high) in limits.items():
        value = numbers[name]
        if value is not None and not low <= value <= high:
            raise UserError(f"{name}: {value} is outside {low}..{high}")
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {out} is a file; give a new or an empty folder")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"out: the folder {out} is not empty; empty it or give another one")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _write_imagefolder(order: _Order) -> None:
    """`<split>/<class>/<class>_000000.jpg`."""
    for split, count in order.counts.items():
        folders = [_folder(order.root / split / name) for name in CLASSES]
        for index in range(count):
            picture = classification_image(order.seed, split, index, order.size)
            name = f"{CLASSES[picture.label]}_{index // len(CLASSES):06d}.jpg"
            order.write_jpeg(folders[picture.label] / name, picture.image)


def _write_coco(order: _Order) -> None:
    """`<split>2017/000000000001.jpg` and `annotations/instances_<split>2017.json`."""
    annotations_folder = _folder(order.root / "annotations")
    for place, (split, count) in enumerate(order.counts.items()):
        folder = _folder(order.root / f"{split}2017")
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            drawn = scene(order.seed, split, index, _COCO, order.size)
            image_id = 3 * index + 1 + place  # with gaps, and never the same in both splits
            name = f"{image_id:012d}.jpg"
            order.write_jpeg(folder / name, drawn.image)
            images.append(_coco_image(image_id, name, drawn))
            for item in drawn.items:
                number = 1_000_000 * place + len(annotations) + 1
                annotations.append(_coco_annotation(number, image_id, item))
        text = json.dumps(_coco_head() | {"images": images, "annotations": annotations})
        (annotations_folder / f"instances_{split}2017.json").write_text(text, encoding="utf-8")


def _coco_head() -> dict[str, Any]:
    """The sections of an instances file that do not depend on the images."""
    categories = [
        {"supercategory": "shape", "id": identifier, "name": name}
        for identifier, name in zip(COCO_IDS, CLASSES, strict=True)
    ]
    return {
        "info": {"description": "Generated shapes", "version": "1.0", "year": 2017},
        "licenses": [{"id": 1, "name": "Public domain", "url": ""}],
        "categories": categories,
    }


def _coco_image(image_id: int, name: str, drawn: Scene) -> dict[str, Any]:
    height, width = drawn.image.shape[:2]
    return {"id": image_id, "file_name": name, "height": height, "width": width, "license": 1}


def _coco_annotation(number: int, image_id: int, item: Item) -> dict[str, Any]:
    """Box and area are those of the visible part; a crowd has run lengths, the rest polygons."""
    mask = item.visible
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": COCO_IDS[item.label],
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(mask.sum()),
        "iscrowd": int(item.crowd),
        "segmentation": run_lengths(mask) if item.crowd else polygons(mask),
    }


def _label_map(drawn: Scene, ground: int, ignored: int) -> npt.NDArray[np.uint8]:
    """Labels uint8 [H, W]: `ground`, the classes from 1 on it, and borders that do not count."""
    labels = np.full(drawn.image.shape[:2], ground, np.uint8)
    for item in drawn.items:
        labels[item.visible] = item.label + 1
    for item in drawn.items:
        labels[border(item.visible)] = ignored
    return labels


def _write_voc(order: _Order) -> None:
    """`VOC2012/JPEGImages`, masks and lists of the original release and of the augmented set.

    The first are `SegmentationClass` (with a palette) and `ImageSets/Segmentation`, the second
    `SegmentationClassAug` (grey) and `list`.
    """
    root = order.root / "VOC2012"
    images, labels = _folder(root / "JPEGImages"), _folder(root / "SegmentationClass")
    grey_labels = _folder(root / "SegmentationClassAug")
    names_folder, pairs_folder = (
        _folder(root / "ImageSets" / "Segmentation"),
        _folder(root / "list"),
    )
    palette = voc_palette()
    for place, (split, count) in enumerate(order.counts.items()):
        names = [f"{2007 + place}_{index:06d}" for index in range(count)]
        for index, name in enumerate(names):
            drawn = scene(order.seed, split, index, _LABELLED, order.size)
            order.write_jpeg(images / f"{name}.jpg", drawn.image)
            label_map = _label_map(drawn, ground=0, ignored=255)
            (labels / f"{name}.png").write_bytes(png(label_map, palette))
            (grey_labels / f"{name}.png").write_bytes(png(label_map))
        (names_folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        pairs = [f"/{images.name}/{name}.jpg /{grey_labels.name}/{name}.png\n" for name in names]
        file = {"train": "train_aug.txt", "val": "val.txt"}[split]
        (pairs_folder / file).write_text("".join(pairs))


def _write_ade20k(order: _Order) -> None:
    """`ADEChallengeData2016/{images,annotations}/{training,validation}/ADE_train_00000001.*`."""
    root = order.root / "ADEChallengeData2016"
    for split, count in order.counts.items():
        subset = {"train": "training", "val": "validation"}[split]
        images, labels = _folder(root / "images" / subset), _folder(root / "annotations" / subset)
        for index in range(count):
            drawn = scene(order.seed, split, index, _LABELLED, order.size)
            name = f"ADE_{split}_{index + 1:08d}"
            order.write_jpeg(images / f"{name}.jpg", drawn.image)
            label_map = _label_map(drawn, ground=ADE20K_GROUND, ignored=0)
            (labels / f"{name}.png").write_bytes(png(label_map))


_LAYOUTS: dict[str, tuple[Callable[[_Order], None], int]] = {
    "imagefolder": (_write_imagefolder, PICTURE_SIZE),
    "coco": (_write_coco, SCENE_SIZE),
    "voc": (_write_voc, SCENE_SIZE),
    "ade20k": (_write_ade20k, SCENE_SIZE),
}
LAYOUTS: tuple[str, ...] = tuple(_LAYOUTS)
"""Names of the layouts."""
