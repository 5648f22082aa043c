"""PASCAL VOC 2012, alone or with the additional masks of SBD and COCO."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from config.errors import UserError
from config.options import OPERATIONAL, Options
from data.datasets.segmentation.labels import Labels
from data.datasets.segmentation.masked_images import MaskedImages, Pair, check_files, root_folder
from data.kinds import SEGMENTATION_DATASETS

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
LABELS = Labels.of(NAMES, range(len(NAMES)), ignored=(255,))
# Lists of pairs, of the augmented set, and lists of names, of the original one.
PAIR_LISTS = {"train": "list/train_aug.txt", "val": "list/val.txt"}
NAME_LISTS = {
    "train": "ImageSets/Segmentation/train.txt",
    "val": "ImageSets/Segmentation/val.txt",
}
COCO_LIST = "train_2017.txt"
_EXPECTED = "VOC2012/ (or the contents of it: JPEGImages/, SegmentationClass/ ...)"


class PascalOptions(Options):
    """`dataset.pascal`."""

    use_coco_data: bool = Field(
        False, description="train on images of COCO as well, with masks of VOC's classes"
    )
    coco_root_dir: str | None = Field(
        None,
        description="folder of these, with train_2017.txt",
        json_schema_extra=OPERATIONAL,
    )


@SEGMENTATION_DATASETS.register("pascal", key="pascal", options=PascalOptions)
class Pascal(MaskedImages):
    """21 classes, 0 the background; 255 (void) is left out.

    `root` is the folder VOC2012 or the one that holds it. A line of `list/train_aug.txt` and
    `list/val.txt` is an image and its mask, relative to VOC2012. Where there is no folder `list`,
    the lists of the original release are read. Raises UserError for what is missing or wrong.
    """

    def __init__(self, options: PascalOptions, *, root: str | None, split: str):
        key = f"dataset.root_{split}"
        base = root_folder(root, key, _EXPECTED)
        base = base / "VOC2012" if (base / "VOC2012").is_dir() else base
        part = "train" if split == "train" else "val"
        augmented = (base / "list").is_dir()
        file = base / (PAIR_LISTS if augmented else NAME_LISTS)[part]
        pairs = (_read_pairs if augmented else _read_names)(file, base, key)
        notes = [f"{len(pairs)} images of {file}"]
        if not augmented:
            notes.append("there is no folder list/, so the masks are those of the original release")
        if options.use_coco_data and split == "train":
            extra = _coco_pairs(options.coco_root_dir)
            notes.append(f"{len(extra)} images of COCO, of {options.coco_root_dir}")
            pairs += extra
        check_files(pairs, key)
        super().__init__(pairs, LABELS, notes)


def _coco_pairs(root: str | None) -> list[Pair]:
    key = "dataset.pascal.coco_root_dir"
    if not root:
        raise UserError(
            f"{key}: not given, but dataset.pascal.use_coco_data is true; set it to the folder with "
            f"{COCO_LIST}, or use_coco_data to false"
        )
    folder = root_folder(root, key, COCO_LIST)
    return _read_pairs(folder / COCO_LIST, folder, key, prefix="coco/")


def _read_pairs(file: Path, base: Path, key: str, prefix: str = "") -> list[Pair]:
    """Lines "image mask", both relative to `base` and beginning with a slash or not."""
    pairs = []
    for number, line in enumerate(_lines(file, key), 1):
        words = line.split()
        if words and len(words) != 2:
            raise UserError(
                f"{key}: {file}:{number}: {line.strip()!r} is not an image and a mask, both without "
                "spaces"
            )
        if words:
            image, mask = (word.lstrip("/") for word in words)
            pairs.append(Pair(prefix + Path(image).stem, str(base / image), str(base / mask)))
    return _some(pairs, file, key)


def _read_names(file: Path, base: Path, key: str) -> list[Pair]:
    """Lines with the name of an image and its mask."""
    names = [line.strip() for line in _lines(file, key)]
    images, masks = base / "JPEGImages", base / "SegmentationClass"
    pairs = [Pair(n, str(images / f"{n}.jpg"), str(masks / f"{n}.png")) for n in names if n]
    return _some(pairs, file, key)


def _lines(file: Path, key: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{key}: the list {file} is no UTF-8 text; save it as such") from None
    except OSError as error:
        raise UserError(
            f"{key}: cannot read the list {file} ({error.strerror or error}); set {key} to the folder "
            "that holds it"
        ) from None


def _some(pairs: list[Pair], file: Path, key: str) -> list[Pair]:
    if not pairs:
        raise UserError(f"{key}: the list {file} is empty")
    return pairs
