"""Data sets in COCO's layout: one annotation file and one folder of images per split."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from config.errors import UserError
from config.options import Options
from data.datasets.detection.annotations import Annotations, read_annotations
from data.datasets.detection.objects import Objects, usable
from data.datasets.detection.report import examine
from data.images import ImageError, read_image
from data.kinds import DETECTION_DATASETS

# Where to look below the root, in this order: as published, as its archives unpack, and without
# the year. {} is the split.
ANNOTATION_FILES = ("annotations/instances_{}2017.json", "annotations/instances_{}.json")
IMAGE_FOLDERS = ("images/{}2017", "{}2017", "images/{}", "{}")


class DetectionDataOptions(Options):
    """`dataset.detection`."""

    no_background_id: bool = Field(
        False, description="count labels from 0; only false is possible: SSD needs a background"
    )

    @model_validator(mode="after")
    def _with_background(self) -> DetectionDataOptions:
        if self.no_background_id:
            raise ValueError(
                "no_background_id: SSD tells objects from the background, which is its class 0, so "
                "labels are counted from 1; leave it out (n_classes is then one more than the "
                "categories)"
            )
        return self


@DETECTION_DATASETS.register("coco", key="detection", options=DetectionDataOptions)
@DETECTION_DATASETS.register("coco_ssd", key="detection", options=DetectionDataOptions)
class CocoDetection:
    """Images and the objects in them.

    Below `root` stand `annotations/instances_<split>2017.json` and `images/<split>2017/`, or what
    else `ANNOTATION_FILES` and `IMAGE_FOLDERS` name; "test" may be called val. Training uses the
    images with an annotation record, evaluation all, in the order of the file. `categories`;
    `image_ids` int64 [N]; `sizes` int64 [N, 2] (height, width), 0 where the file gives none;
    `report` what is special about the boxes. Raises UserError for what is missing or wrong.
    """

    def __init__(self, options: DetectionDataOptions, *, root: str | None, split: str):
        key = f"dataset.root_{split}"
        self.file, self.folder = _places(root, split, key)
        every, self.categories = read_annotations(self.file)
        used = every.annotated() if split == "train" else every
        if not len(used.image_ids):
            lack = "has no image" if not len(every.image_ids) else "has no image with an annotation"
            raise UserError(f"{key}: {self.file} {lack}")
        _check_files(self.folder, used.names, f"{key}: {self.file}")
        self._annotations: Annotations = used
        self.report = examine(used, left_out=len(every.image_ids) - len(used.image_ids))
        self.image_ids, self.sizes = used.image_ids, used.sizes

    def __len__(self) -> int:
        return len(self.image_ids)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], Objects]:
        """The image, uint8 [H, W, 3] RGB, and its objects.

        ImageError if it cannot be read, or has not the size that the annotation file says.
        """
        image = read_image(self.describe(index))
        height, width = image.shape[:2]
        self._check_size(index, (height, width))
        return image, self.objects(index, height, width)

    def objects(self, index: int, height: int, width: int) -> Objects:
        """The objects of an image of this size in pixels; nothing is read."""
        truth = self._annotations.truth(index)
        boxes, good = usable(truth.boxes, height, width)
        kept = good & ~truth.crowd
        return Objects(boxes[kept], truth.labels[kept], truth)

    def describe(self, index: int) -> str:
        """The path of the image."""
        return str(self.folder / str(self._annotations.names[index]))

    def _check_size(self, index: int, found: tuple[int, int]) -> None:
        """Boxes in pixels of another size would be wrong."""
        said = tuple(self.sizes[index].tolist())
        if any(0 < side != here for side, here in zip(said, found, strict=True)):
            hint = " (turned: its orientation tag is not applied)" if said == found[::-1] else ""
            raise ImageError(
                f"{self.describe(index)}: the image has {found[0]} x {found[1]} pixels (height x "
                f"width), but {said[0]} x {said[1]} according to {self.file}{hint}"
            )


def _places(root: str | None, split: str, key: str) -> tuple[Path, Path]:
    """The annotation file and the folder of images of a split."""
    if not root:
        raise UserError(
            f"{key}: no folder is given; set {key}=FOLDER, the one that holds annotations/ and "
            "images/"
        )
    base = Path(root)
    if not base.is_dir():
        raise UserError(
            f"{key}: no folder {base.absolute()}; one with annotations/ and images/ is expected"
        )
    names = ("test", "val") if split == "test" else (split,)
    files = {base / form.format(name): name for name in names for form in ANNOTATION_FILES}
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        raise UserError(f"{key}: no annotation file; looked for {_listed(files)}")
    folders = [base / form.format(files[file]) for form in IMAGE_FOLDERS]
    folder = next((path for path in folders if path.is_dir()), None)
    if folder is None:
        raise UserError(f"{key}: no folder of images; looked for {_listed(folders)}")
    return file, folder


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def _check_files(folder: Path, names: npt.NDArray[np.str_], what: str) -> None:
    """UserError if an image is not in its folder; one listing is cheaper than a look at each."""
    present = set(os.listdir(folder))
    missing = [
        name for name in names.tolist() if name not in present and not (folder / name).is_file()
    ]
    if missing:
        raise UserError(
            f"{what} has {len(names)} images, of which {len(missing)} are not in {folder}, first "
            f"{missing[0]}; add them, or remove them from the file"
        )
