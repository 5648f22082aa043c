"""Writes labels in the layout of COCO 2017, whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import UserError
from data.conversion.findings import Findings
from data.conversion.labels import LabelledImage, LabelledObject, Labels

_SPLITS = ("train", "val")
_USUAL_SHARE = 0.2
_GRID = 256  # edges are rounded to 1/256 pixel: whole ones come out whole, sums are exact
_ROUNDING = 0.1  # pixels beyond the edge of the image that are not worth a word


def split_images(labels: Labels, root: Path, val_share: float | None, seed: int) -> Labels:
    """Keep the splits of the data; without a validation split put a share of the images aside.

    Which ones follows from `seed` and the paths of the images below `root` alone, and few change
    when images are added. `val_share` None is 0.2; UserError if it is given but not needed.
    """
    splits, count = {image.split for image in labels.images}, len(labels.images)
    if "val" in splits:
        if splits != set(_SPLITS):
            raise UserError(f"{root}: there are images to validate with, but none to train on")
        if val_share is not None:
            raise UserError(f"--val-share: {root} has a validation split; leave the option out")
        return labels
    share = _USUAL_SHARE if val_share is None else val_share
    if not 0.0 < share < 1.0:
        raise UserError(f"--val-share: {share:g} is not between 0 and 1")
    if count < 2:
        raise UserError(f"{root}: {count} image(s) to train on; give at least 2")

    def lot(image: LabelledImage) -> bytes:
        name = Path(os.path.relpath(image.path, root)).as_posix()
        return hashlib.sha256(f"{seed}/{name}".encode()).digest()

    drawn = sorted(labels.images, key=lot)[: min(max(round(share * count), 1), count - 1)]
    aside = {image.path for image in drawn}
    images = [image._replace(split=_SPLITS[image.path in aside]) for image in labels.images]
    return labels._replace(images=images)


def check_output(out: Path, source: Path) -> None:
    """UserError if `out` is a file, has contents, or lies in the folder that is read."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; give a new or an empty folder")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out: the folder {out} is not empty; empty it or give another one")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--out: {out} lies in {source}, which is read; give a folder beside it")


def write_coco(
    labels: Labels, out: Path, findings: Findings, *, copy: bool, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `annotations/instances_{train,val}2017.json`, `images/{train,val}2017/*` and the
    report, conversion.json, which is also returned and begins with `about`.

    Every image has a split. Image files are hard-linked, else symlinked, else copied; `copy`
    copies them. `out` appears only when it is complete. Boxes are clipped to their images.
    """
    writer = _Writer(labels, findings, copy)
    with _whole(out) as folder:
        (folder / "annotations").mkdir()
        for split in _SPLITS:
            content = writer.write_split(split, folder / "images" / f"{split}2017")
            path = folder / "annotations" / f"instances_{split}2017.json"
            path.write_text(json.dumps(content), encoding="utf-8")
        report = {**about, **writer.report()}
        text = json.dumps(report, indent=2) + "\n"
        (folder / "conversion.json").write_text(text, encoding="utf-8")
    return report


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when all has been written, or is removed."""
    out = out.resolve()
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()  # fails if someone has filled it meanwhile
        partial.rename(out)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{out}: cannot write ({reason}); nothing is left there") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Writer:
    def __init__(self, labels: Labels, findings: Findings, copy: bool):
        self._labels, self._findings = labels, findings
        self._links = () if copy else (("hard-linked", os.link), ("symlinked", os.symlink))
        self._kinds = {name: place for place, name in enumerate(labels.classes, 1)}
        self._image_ids, self._object_ids = itertools.count(1), itertools.count(1)
        self._files: Counter[str] = Counter()
        self._images: Counter[str] = Counter()
        self._empty: Counter[str] = Counter()
        self._objects: Counter[tuple[str, str]] = Counter()  # of (class, split)

    def write_split(self, split: str, folder: Path) -> dict[str, Any]:
        """Fill the folder of images; return the content of the split's annotation file."""
        folder.mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        taken: set[str] = set()
        for image in (image for image in self._labels.images if image.split == split):
            number, (width, height) = next(self._image_ids), image.size
            name = self._name(image.path, taken)
            self._put(image.path, folder / name)
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            before = len(annotations)
            for item in image.objects:
                if record := self._annotation(item, image):
                    annotations.append({"image_id": number, **record})
                    self._objects[item.name, split] += 1
            self._images[split] += 1
            self._empty[split] += len(annotations) == before
        kinds = [{"id": n, "name": name, "supercategory": ""} for name, n in self._kinds.items()]
        head = {"info": {"description": "converted labels"}, "licenses": [], "categories": kinds}
        return {**head, "images": images, "annotations": annotations}

    def report(self) -> dict[str, Any]:
        """Counts by split and class, and what was noticed."""
        classes = {name: {s: self._objects[name, s] for s in _SPLITS} for name in self._kinds}
        return {
            "images": {split: self._images[split] for split in _SPLITS},
            "images without objects": {split: self._empty[split] for split in _SPLITS},
            "objects": {s: sum(row[s] for row in classes.values()) for s in _SPLITS},
            "classes": classes,
            "files": dict(self._files),
            "findings": self._findings.record(),
        }

    def _name(self, path: Path, taken: set[str]) -> str:
        """The file's name, or one near it; some file systems do not tell A.jpg from a.jpg."""
        near = (f"{path.stem}_{number}{path.suffix}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([path.name], near) if n.lower() not in taken)
        taken.add(name.lower())
        if name != path.name:
            self._findings.add("renamed", f"{path} to {name}")
        return name

    def _put(self, source: Path, target: Path) -> None:
        source = source.resolve()  # a hard link to a symlink would be one
        for how, link in self._links:
            try:
                link(source, target)
            except (OSError, NotImplementedError):
                continue
            self._files[how] += 1
            return
        shutil.copyfile(source, target)
        self._files["copied"] += 1

    def _annotation(self, item: LabelledObject, image: LabelledImage) -> dict[str, Any] | None:
        """The record of an object, or None for a box that is dropped."""
        edges = [round(edge * _GRID) / _GRID for edge in item.box]
        inside = [min(max(e, 0), limit) for e, limit in zip(edges, image.size * 2, strict=True)]
        left, top, right, bottom = inside
        if not (right > left and bottom > top):
            has_area = edges[2] > edges[0] and edges[3] > edges[1]
            self._findings.add("outside" if has_area else "degenerate", item.place)
            return None
        if any(abs(a - b) > _ROUNDING for a, b in zip(edges, inside, strict=True)):
            self._findings.add("clipped", item.place)
        area, outlines = (right - left) * (bottom - top), []
        if item.polygon:
            points = np.clip(np.reshape(item.polygon, (-1, 2)), 0, image.size).round(2)
            area, outlines = _area(*points.T), [points.ravel().tolist()]
        return {
            "id": next(self._object_ids),
            "category_id": self._kinds[item.name],
            "bbox": [left, top, right - left, bottom - top],
            "area": area,
            "iscrowd": int(item.crowd),
            "segmentation": outlines,
        }


def _area(xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> float:
    """The area within an outline (the shoelace formula)."""
    return float(abs(xs @ np.roll(ys, -1) - ys @ np.roll(xs, -1)) / 2)
