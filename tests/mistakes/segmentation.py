"""Mistakes in semantic segmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import engine
from data.datasets.shapes import generate
from engine.parts import build_task
from tests.mistakes.case import Case, Prepare, all_of, network, remove, write

SEGMENTATION = """\
common:
  run_label: run
  device: cpu
  tensorboard_logging: false
dataset:
  root_train: voc
  root_val: voc
  name: pascal
  category: segmentation
  train_batch_size0: 2
  val_batch_size0: 2
  eval_batch_size0: 1
  workers: 0
sampler:
  bs:
    crop_size_width: 64
    crop_size_height: 64
model:
  classification:
    name: mobilenetv1
    mobilenetv1:
      width_multiplier: 0.25
  segmentation:
    name: encoder_decoder
    seg_head: deeplabv3
    output_stride: 16
    deeplabv3:
      aspp_out_channels: 16
scheduler:
  max_epochs: 1
stats:
  val: [loss, iou]
"""
SEGMENT = "train segmentation.yaml"
LIST = "voc/VOC2012/list/train_aug.txt"
MASK = "voc/VOC2012/SegmentationClassAug/2008_000000.png"  # of validation
TRAINING_MASK = "voc/VOC2012/SegmentationClassAug/2007_000000.png"
OWN = f"{SEGMENT} dataset.name=image_mask dataset.root_train=own dataset.root_val=own"
NAMED = f"{OWN} dataset.image_mask.names=[ground,thing]"


def voc(folder: Path) -> None:
    """segmentation.yaml and its data, 4 and 2 images of 64 x 64."""
    (folder / "segmentation.yaml").write_text(SEGMENTATION)
    generate("voc", folder / "voc", train=4, val=2, size=64)


def own(folder: Path) -> None:
    """segmentation.yaml, and 4 and 2 black images with masks of 0 and 1."""
    (folder / "segmentation.yaml").write_text(SEGMENTATION)
    values = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 2
    for split, count in (("train", 4), ("val", 2)):
        for kind, pixels in (("images", np.zeros((64, 64, 3), np.uint8)), ("masks", values)):
            (folder / "own" / kind / split).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pixels).save(folder / "own" / kind / split / f"{number}.png")


def pixels(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Prepare:
    """Save a mask with other pixels, uint8 [H, W] or [H, W, 3]."""

    def run(folder: Path) -> None:
        with Image.open(folder / name) as mask:
            Image.fromarray(change(np.array(mask))).save(folder / name)

    return run


def with_value(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """Give the first eight pixels of a mask this value."""

    def change(mask: np.ndarray) -> np.ndarray:
        mask[0, :8] = value
        return mask

    return change


def in_colours(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask, mask, 255 - mask], axis=-1)


def as_jpeg(folder: Path) -> None:
    with Image.open(folder / MASK) as mask:
        mask.convert("L").save(folder / MASK, format="JPEG")


def seven_classes(folder: Path) -> None:
    """Save weights of the network of segmentation.yaml for 7 classes as w.pt."""
    recipe = engine.load_recipe(folder / "segmentation.yaml", ["model.segmentation.n_classes=7"])
    torch.save(build_task(recipe).build_model().state_dict(), folder / "w.pt")


SEGMENTATION_CASES = [
    Case(
        "the folder of the images for that of the data set",
        words=f"{SEGMENT} dataset.root_train=voc/VOC2012/JPEGImages",
        prepare=voc,
    ),
    Case("a missing list of the images", words=SEGMENT, prepare=all_of(voc, remove(LIST))),
    Case(
        "a list of images without masks",
        words=SEGMENT,
        prepare=all_of(voc, write(LIST, "/JPEGImages/2007_000000.jpg\n")),
    ),
    Case("a missing mask", words=SEGMENT, prepare=all_of(voc, remove(TRAINING_MASK))),
    Case(
        "a value in a mask that is no class",
        words=SEGMENT,
        prepare=all_of(voc, pixels(TRAINING_MASK, with_value(40))),
        late=True,
    ),
    Case(
        "such a value, found before training",
        words="check segmentation.yaml --out checked",
        prepare=all_of(voc, pixels(MASK, with_value(40))),
    ),
    Case(
        "a mask of another size than its image",
        words=SEGMENT,
        prepare=all_of(voc, pixels(MASK, lambda mask: mask[:48])),
        late=True,
    ),
    Case(
        "a mask in colours",
        words=SEGMENT,
        prepare=all_of(voc, pixels(MASK, in_colours)),
        late=True,
    ),
    Case("a mask saved as JPEG", words=SEGMENT, prepare=all_of(voc, as_jpeg), late=True),
    Case("masks whose classes have no names", words=OWN, prepare=own),
    Case(
        "an image of one's own without mask",
        words=NAMED,
        prepare=all_of(own, remove("own/masks/train/0.png")),
    ),
    Case(
        "colours for masks of values",
        words=f"{NAMED} dataset.image_mask.colors=[[0,0,0],[255,0,0]]",
        prepare=own,
        late=True,
    ),
    Case(
        "another number of classes than the data have",
        words=f"{SEGMENT} model.segmentation.n_classes=20",
        prepare=voc,
    ),
    Case(
        "no network of segmentation",
        words=f"{SEGMENT} model.segmentation.name=null",
        prepare=voc,
    ),
    Case("a misspelt head", words=f"{SEGMENT} model.segmentation.seg_head=deeplab", prepare=voc),
    Case(
        "one image in a batch, and batch norm behind the pooling",
        words=f"{SEGMENT} dataset.train_batch_size0=1",
        prepare=voc,
    ),
    Case("the metric of classification", words=f"{SEGMENT} stats.val=loss,top1", prepare=voc),
    Case(
        "the crop of a detector",
        words=f"{SEGMENT} image_augmentation.ssd_crop.enable=true",
        prepare=voc,
    ),
    Case(
        "images of different sizes in one batch",
        words=f"{SEGMENT} dataset.eval_batch_size0=4",
        prepare=voc,
    ),
    Case(
        "the stride of windows without their side",
        words="eval segmentation.yaml evaluation.segmentation.sliding_stride=32",
        prepare=voc,
    ),
    Case(
        "the weights of another number of classes",
        words="eval segmentation.yaml model.segmentation.pretrained=w.pt",
        prepare=all_of(voc, seven_classes),
    ),
    Case(
        "a classifier for a network of segmentation",
        words="eval segmentation.yaml model.segmentation.pretrained=w.pt",
        prepare=all_of(voc, network()),
    ),
]
