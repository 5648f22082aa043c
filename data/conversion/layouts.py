"""Which images a folder holds, in which splits, and which label file belongs to each."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from config.errors import Problem, UserError
from data.conversion.findings import Findings
from data.conversion.labels import LabelledImage, LabelledObject, refuse
from data.images import EXTENSIONS

SPLITS = {  # what their folders and lists are called
    "train": ("train", "training", "train2017"),
    "val": ("val", "valid", "validation", "val2017"),
    "test": ("test", "testing", "test2017"),
}
_UNSPLIT = ("trainval", "default")
_FOLDERS = ("images/{}", "JPEGImages/{}", "{}")
_ORIENTATION = 0x0112  # EXIF

Listed = tuple[str, Path]
"""The split "train", "val", "test" or "" (none), and an image of it."""


def images_below(folder: Path) -> list[Path]:
    """The images of a folder and its sub-folders, sorted; hidden ones are left out."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        seen = [name for name in names if name.lower().endswith(EXTENSIONS) and name[0] != "."]
        found += [Path(base, name) for name in seen]
    return sorted(found)


def image_folder(root: Path) -> Path:
    """The folder of all images: `root` itself if none is called so."""
    return next(root / n for n in ("images", "JPEGImages", "") if (root / n).is_dir())


def images_by_folder(root: Path) -> list[Listed]:
    """The images of the folders of the splits, or all images if there are no such folders."""
    found: list[Listed] = []
    for split, names in SPLITS.items():
        folders = (root / form.format(name) for form, name in itertools.product(_FOLDERS, names))
        folder = next((folder for folder in folders if folder.is_dir()), None)
        found += [(split, path) for path in images_below(folder)] if folder else []
    return found or [("", path) for path in images_below(image_folder(root))]


def split_lists(folder: Path) -> dict[str, Path]:
    """split -> its list in a folder (`train.txt`); "" (`trainval.txt`) if there is none to train."""
    known = {path.stem.lower(): path for path in sorted(folder.glob("*.txt"))}
    rows = ((split, name) for split, names in SPLITS.items() for name in names)
    found = {split: known[name] for split, name in rows if name in known}
    unsplit = [known[name] for name in _UNSPLIT if name in known]
    if unsplit and "train" not in found:
        return {"": unsplit[0]} | {split: found[split] for split in found if split == "test"}
    return found


class LabelFiles(NamedTuple):
    """How label files are found and read.

    One stands in a folder that mirrors the one of the images (`mirrors`: its name -> those of
    labels), or beside the image, under the image's name with `suffix`; `others` matches files with
    that suffix that are no labels. `read(file, size of the image)` gives objects and mistakes.
    """

    suffix: str
    mirrors: dict[str, tuple[str, ...]]
    others: str
    read: Callable[[Path, tuple[int, int]], Iterable[LabelledObject | Problem]]

    def places(self, image: Path) -> Iterator[Path]:
        """Where the label file of an image may be, the likeliest place first."""
        name, parts = image.with_suffix(self.suffix).name, image.parent.parts
        for images, labels in self.mirrors.items():
            if images in parts:
                at = len(parts) - 1 - parts[::-1].index(images)
                yield from (Path(*parts[:at], label, *parts[at + 1 :], name) for label in labels)
        yield image.with_name(name)

    def read_all(self, listed: list[Listed], findings: Findings) -> list[LabelledImage]:
        """The images to convert with their objects. UserError for any mistake in the labels."""
        if not listed:
            endings = ", ".join(EXTENSIONS)
            raise UserError(f"{findings.root}: no images ({endings}) in any layout that is known")
        owners: dict[Path, Path] = {}
        mistakes: list[Problem] = []
        images: list[LabelledImage] = []
        for split, path in _once(listed, findings):
            label = next((place for place in self.places(path) if place.is_file()), None)
            if label and owners.setdefault(label, path) != path:
                findings.add("shared", path)
            size = None if split == "test" else _size(path, findings)
            if not size:
                continue
            if not label:
                findings.add("no_label_file", path)
            objects: dict[object, LabelledObject] = {}
            for item in self.read(label, size) if label else ():
                if isinstance(item, Problem):
                    mistakes.append(item)
                elif objects.setdefault(item[:2] + item[3:], item) is not item:
                    findings.add("repeated", item.place)
            images.append(LabelledImage(path, split, size, tuple(objects.values())))
        refuse(list(dict.fromkeys(mistakes)))  # once for an image of both splits
        if images and not owners:
            place = " or ".join(map(str, self.places(images[0].path)))
            raise UserError(f"{findings.root}: no image has a label file, e.g. there is no {place}")
        for path in sorted({*images_below(findings.root)} - {path for _, path in listed}):
            findings.add("unlisted", path)
        for folder in sorted({label.parent for label in owners}):
            for path in sorted(folder.glob(f"*{self.suffix}")):
                if path not in owners and not re.fullmatch(self.others, path.name, re.IGNORECASE):
                    findings.add("unused", path)
        return images


def _once(listed: list[Listed], findings: Findings) -> Iterator[Listed]:
    """Every image once per split; what is odd about the splits is noted."""
    seen: dict[Path, set[str]] = {}
    for split, path in listed:
        splits = seen.setdefault(path, set())
        if split in splits:
            findings.add("listed_twice", path)
            continue
        splits.add(split)
        if split == "test":
            findings.add("test", path)
        elif splits >= {"train", "val"}:
            findings.add("in_both_splits", path)
        yield split, path


def _size(path: Path, findings: Findings) -> tuple[int, int] | None:
    """(width, height) from the header of an image file, as our decoder will find it, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags, and of very large images
            with Image.open(path) as image:
                # of JPEG only: looking for a tag makes PIL decode some other formats
                jpeg = image.format in ("JPEG", "MPO")
                if jpeg and image.getexif().get(_ORIENTATION, 1) != 1:
                    findings.add("turned", path)
                return image.size
    except (OSError, Image.DecompressionBombError):
        findings.add("unreadable", path)
        return None
