"""What `cvnets train FOLDER` chooses where the user says nothing: keys of a recipe for fine-tuning."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, get_args

from cvnets.weights.preprocessing import Preprocessing
from data.transforms.interpolation import Interpolation
from engine.pretrained import NORMALIZATION
from engine.recipe import Recipe

IMAGES_SEEN = 200_000  # by a training from weights; one from scratch sees three times as many
EPOCHS = (10, 100)  # the fewest and the most; three times as many from scratch
STEPS = 20  # in an epoch at least, for which the batch is made smaller
BATCHES = (8, 64)  # the smallest and the largest, a power of two
WARMUP = (0.05, 500)  # this share of all steps, but no more than so many
SIDES = (64, 256)  # of the images of a training from scratch, pixels
RESIZE = 1.125  # short side over the crop of evaluation, as 288 to 256 in the official recipes


def run_keys(folder: Path) -> dict[str, Any]:
    """The run, its folder and its measures."""
    return {
        "common.release": "main",
        "common.run_label": folder.resolve().name or "images",
        "common.auto_resume": True,
        "common.mixed_precision": True,
        "dataset.category": "classification",
        "dataset.val_batch_size0": BATCHES[1],
        "dataset.eval_batch_size0": BATCHES[1],
        "dataset.persistent_workers": True,
        "dataset.pin_memory": True,
        "stats.train": ["loss"],
        "stats.val": ["loss", "top1"],
        "stats.checkpoint_metric": "top1",
        "stats.checkpoint_metric_max": True,
    }


def training_keys(asked: Recipe, images: int, *, scratch: bool) -> dict[str, Any]:
    """Batch, epochs, optimizer and schedule for so many training images, around what was asked for."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    wanted = 2 ** int(math.log2(max(1, images / STEPS)))
    batch = max(2, min(max(wanted, BATCHES[0]), BATCHES[1]) // processes)
    if "dataset.train_batch_size0" in asked.origins:
        batch = asked.dataset.train_batch_size0
    times = 3 if scratch else 1
    epochs = asked.scheduler.max_epochs or min(
        max(times * IMAGES_SEEN // images, times * EPOCHS[0]), times * EPOCHS[1]
    )
    in_epoch = math.ceil(images / (batch * processes * asked.common.accum_freq))
    steps = epochs * in_epoch
    rate = 1e-3 if scratch else 5e-4
    return {
        "common.log_freq": min(100, in_epoch),
        "dataset.train_batch_size0": batch,
        "loss.classification.name": "cross_entropy",
        "loss.classification.cross_entropy.label_smoothing": 0.1,
        "optim.name": "adamw",
        "optim.weight_decay": 0.01,
        "optim.no_decay_bn_filter_bias": True,
        "scheduler.name": "cosine",
        "scheduler.max_epochs": epochs,
        "scheduler.warmup_iterations": min(round(WARMUP[0] * steps), WARMUP[1]),
        "scheduler.warmup_init_lr": 1e-6,
        "scheduler.cosine": {"max_lr": rate, "min_lr": rate / 100},
        "ema.enable": True,
        "ema.momentum": round(min(max(10 / steps, 5e-4), 0.1), 4),
    }


def image_keys(about: Preprocessing | None, side: float) -> dict[str, Any]:
    """Augmentation, and images of the size, filter and normalisation that the weights know."""
    base = min(max(32 * round(side / 32), SIDES[0]), SIDES[1])
    known = about or Preprocessing()
    height, width = known.crop or (base, base)
    resize = known.resize or round(min(height, width) * RESIZE)
    usual = known.interpolation in get_args(Interpolation)
    interpolation = known.interpolation if usual else "bilinear"
    section = {
        "random_resized_crop": {
            "enable": True,
            "interpolation": interpolation,
            "scale": [0.35, 1.0],
        },
        "random_horizontal_flip": {"enable": True},
        "color_jitter": {"enable": True, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
        "resize": {"enable": True, "size": resize, "interpolation": interpolation},
        "center_crop": {"enable": True, "size": [height, width]},
    }
    mapping: dict[str, Any] = {
        "image_augmentation": section,
        "sampler.name": "batch_sampler",
        "sampler.bs": {"crop_size_height": height, "crop_size_width": width},
    }
    plain = Preprocessing()
    if known.mean and known.std and (known.mean, known.std) != (plain.mean, plain.std):
        mapping[NORMALIZATION] = {"enable": True, "mean": known.mean, "std": known.std}
    return mapping
