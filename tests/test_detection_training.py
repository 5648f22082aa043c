"""A detector learns eight images by heart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PLAIN = [
    f"image_augmentation.{name}.enable=false"
    for name in ("ssd_crop", "photo_metric_distort", "random_horizontal_flip")
]
COPIES = 50  # of each image in an epoch, under ids of their own, so that they mix in the batches


def learn_what_is_evaluated(root: Path) -> None:
    """Make the training images the validation images, and list them many times for training."""
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    shutil.rmtree(root / "val2017")
    shutil.copytree(root / "train2017", root / "val2017")
    images, annotations = content.pop("images"), content.pop("annotations")
    content["images"] = [
        image | {"id": image["id"] + 1000 * copy} for copy in range(COPIES) for image in images
    ]
    copies = [
        one | {"image_id": one["image_id"] + 1000 * copy}
        for copy in range(COPIES)
        for one in annotations
    ]
    content["annotations"] = [one | {"id": n} for n, one in enumerate(copies, 1)]
    path.write_text(json.dumps(content))


def test_eight_images_are_learnt_by_heart(command, tmp_path):
    """AP above 0.9 after 250 steps from scratch: a minute or two on two cores."""
    command("shapes", "--layout", "coco", "--out", "eight", "--train", 8, "--val", 1, cwd=tmp_path)
    learn_what_is_evaluated(tmp_path / "eight")
    words = ["dataset.root_train=eight", "dataset.root_val=eight", "dataset.train_batch_size0=8"]
    words += ["dataset.workers=0", "sampler.name=batch_sampler", "ema.enable=false"]
    words += [f"sampler.bs.crop_size_{side}=160" for side in ("width", "height")]
    words += ["scheduler.max_epochs=5", "scheduler.warmup_iterations=20"]
    words += ["scheduler.cosine.max_lr=3e-3", "model.classification.pretrained=null"]
    command("train", "demo/detection", *words, *PLAIN, cwd=tmp_path, timeout=900)
    summary = json.loads((tmp_path / "results/demo_detection/summary.json").read_text())
    assert summary["coco_map.bbox"] > 90
