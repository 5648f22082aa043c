"""Mistakes in object detection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from data.datasets.shapes import generate
from tests.mistakes.case import Case, Prepare, all_of, cut, network, remove

DETECTION = """\
common:
  run_label: run
  device: cpu
  tensorboard_logging: false
dataset:
  root_train: coco
  root_val: coco
  name: coco_ssd
  category: detection
  train_batch_size0: 2
  val_batch_size0: 2
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
  detection:
    name: ssd
scheduler:
  max_epochs: 1
stats:
  val: [loss, coco_map]
"""
DETECT = "train detection.yaml"


def coco(change: Callable[[dict], object] = lambda content: None) -> Prepare:
    """detection.yaml and its data; `change` alters the annotations of the training split."""

    def run(folder: Path) -> None:
        (folder / "detection.yaml").write_text(DETECTION)
        generate("coco", folder / "coco", train=4, val=2, size=64)
        path = folder / "coco/annotations/instances_train2017.json"
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return run


def first_annotation(**values: object) -> Prepare:
    return coco(lambda content: content["annotations"][0].update(values))


DETECTION_CASES = [
    Case(
        "the folder of the images for that of the data set",
        words=f"{DETECT} dataset.root_train=coco/train2017",
        prepare=coco(),
    ),
    Case(
        "no annotation file",
        words=DETECT,
        prepare=all_of(coco(), remove("coco/annotations/instances_train2017.json")),
    ),
    Case(
        "a results file for an annotation file",
        words=DETECT,
        prepare=coco(lambda content: content["annotations"]),
    ),
    Case(
        "an annotation file that is cut off",
        words=DETECT,
        prepare=all_of(coco(), cut("coco/annotations/instances_train2017.json", 0.5)),
    ),
    Case("an unknown category", words=DETECT, prepare=first_annotation(category_id=99)),
    Case("an unknown image", words=DETECT, prepare=first_annotation(image_id=99)),
    Case("a box of three numbers", words=DETECT, prepare=first_annotation(bbox=[1, 2, 3])),
    Case(
        "a missing image",
        words=DETECT,
        prepare=all_of(coco(), remove("coco/train2017/000000000001.jpg")),
    ),
    Case(
        "categories that differ between the splits",
        words=DETECT,
        prepare=coco(lambda content: content["categories"][0].update(name="rod")),
    ),
    Case(
        "the classes of COCO for other data",
        words=f"{DETECT} model.detection.n_classes=81",
        prepare=coco(),
    ),
    Case("no detector", words=f"{DETECT} model.detection.name=null", prepare=coco()),
    Case("a misspelt detector", words=f"{DETECT} model.detection.name=sdd", prepare=coco()),
    Case(
        "the metric of evaluation in training",
        words=f"{DETECT} stats.train=loss,coco_map",
        prepare=coco(),
    ),
    Case(
        "levels that do not follow each other",
        words=f"{DETECT} anchor_generator.ssd.output_strides=[16,64,128,256,512,-1]",
        prepare=coco(),
    ),
    Case(
        "a list of ratios too few",
        words=f"{DETECT} anchor_generator.ssd.output_strides=[16,32,64,-1]",
        prepare=coco(),
    ),
    Case(
        "images of their own size in one batch",
        words=f"{DETECT} evaluation.detection.resize_input_images=false dataset.eval_batch_size0=2",
        prepare=coco(),
    ),
    Case("evaluation without weights", words="eval detection.yaml", prepare=coco()),
    Case(
        "a classifier for a detector",
        words="eval detection.yaml model.detection.pretrained=w.pt",
        prepare=all_of(coco(), network()),
    ),
]
