"""What all tests share: a small folder of images, a small recipe, the command line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.datasets.shapes import generate

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = Path(__file__).parent / "plugins"
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_handler_stays():
    """A command that a test runs in this process logs to the test's own output, closed after it."""
    before = logging.getLogger().handlers[:]
    yield
    for handler in [*logging.getLogger().handlers]:
        if handler not in before and type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """train/ and val/ with 3 classes of stripes (24 and 11 images each), told apart by direction."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(7)
    ramp = np.arange(48)
    waves = {
        "across": ramp[:, None] + 0 * ramp,
        "down": ramp + 0 * ramp[:, None],
        "slant": ramp[:, None] + ramp,
    }
    for split, count in (("train", 24), ("val", 11)):
        for name, wave in waves.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                stripes = 127 + 100 * np.sin(wave * 0.6 + rng.uniform(0, 6))
                noise = rng.normal(0, 12, (48, 48, 3))
                image = np.clip(stripes[..., None] + noise, 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{number:03}.jpg"), image)
    return root


@pytest.fixture
def tiny_recipe(image_folder, tmp_path) -> dict:
    """A recipe (dotted keys) that trains the tiny network for two epochs in a second."""
    return {
        "common.plugins": [str(PLUGINS / "tiny_models.py")],
        "common.results_loc": str(tmp_path / "results"),
        "common.run_label": "run",
        "common.log_freq": 1,
        "common.device": "cpu",
        "common.tensorboard_logging": False,
        "dataset.root_train": str(image_folder / "train"),
        "dataset.root_val": str(image_folder / "val"),
        "dataset.train_batch_size0": 8,
        "dataset.val_batch_size0": 7,
        "dataset.eval_batch_size0": 7,
        "dataset.workers": 0,
        "image_augmentation.random_resized_crop.enable": True,
        "image_augmentation.random_horizontal_flip.enable": True,
        "image_augmentation.resize.enable": True,
        "image_augmentation.resize.size": 32,
        "image_augmentation.center_crop.enable": True,
        "image_augmentation.center_crop.size": 32,
        "sampler.name": "variable_batch_sampler",
        "sampler.vbs.crop_size_width": 32,
        "sampler.vbs.crop_size_height": 32,
        "sampler.vbs.min_crop_size_width": 24,
        "sampler.vbs.max_crop_size_width": 40,
        "sampler.vbs.min_crop_size_height": 24,
        "sampler.vbs.max_crop_size_height": 40,
        "sampler.vbs.max_n_scales": 3,
        "sampler.vbs.check_scale": 8,
        "optim.name": "adamw",
        "scheduler.max_epochs": 2,
        "scheduler.warmup_iterations": 4,
        "scheduler.cosine.max_lr": 0.01,
        "scheduler.cosine.min_lr": 0.0001,
        "model.classification.name": "tiny",
        "ema.enable": True,
        "ema.momentum": 0.05,
        "stats.train": ["loss", "grad_norm"],
        "stats.val": ["loss", "top1"],
        "stats.checkpoint_metric": "top1",
        "stats.checkpoint_metric_max": True,
    }


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory) -> Path:
    """24 and 19 generated scenes in COCO layout, crowds and an empty one among them."""
    root = tmp_path_factory.mktemp("coco") / "shapes"
    generate("coco", root, train=24, val=19, size=96)
    return root


@pytest.fixture
def detection_recipe(coco_folder, tmp_path) -> dict:
    """SSDLite on a narrow MobileNetV1, two epochs, as dotted keys."""
    return {
        "common.results_loc": str(tmp_path / "results"),
        "common.run_label": "run",
        "common.log_freq": 1,
        "common.device": "cpu",
        "common.tensorboard_logging": False,
        "dataset.root_train": str(coco_folder),
        "dataset.root_val": str(coco_folder),
        "dataset.name": "coco_ssd",
        "dataset.category": "detection",
        "dataset.train_batch_size0": 6,
        "dataset.val_batch_size0": 7,
        "dataset.eval_batch_size0": 7,
        "dataset.workers": 0,
        "sampler.name": "variable_batch_sampler",
        "sampler.vbs.crop_size_width": 96,
        "sampler.vbs.crop_size_height": 96,
        "sampler.vbs.min_crop_size_width": 64,
        "sampler.vbs.max_crop_size_width": 128,
        "sampler.vbs.min_crop_size_height": 64,
        "sampler.vbs.max_crop_size_height": 128,
        "sampler.vbs.max_n_scales": 3,
        "sampler.vbs.check_scale": 32,
        "loss.category": "detection",
        "optim.name": "adamw",
        "scheduler.max_epochs": 2,
        "scheduler.warmup_iterations": 2,
        "scheduler.cosine.max_lr": 0.002,
        "scheduler.cosine.min_lr": 0.0001,
        "model.classification.name": "mobilenetv1",
        "model.classification.mobilenetv1.width_multiplier": 0.25,
        "model.detection.name": "ssd",
        "model.detection.ssd.proj_channels": [32, 32, 32, 16],
        "anchor_generator.ssd.output_strides": [8, 16, 32, -1],
        "anchor_generator.ssd.aspect_ratios": "[[2, 3], [2, 3], [2, 3], [2]]",
        "stats.val": ["loss", "coco_map"],
        "stats.checkpoint_metric": "coco_map.bbox",
        "stats.checkpoint_metric_max": True,
    }


@pytest.fixture(scope="session")
def voc_folder(tmp_path_factory) -> Path:
    """24 and 19 generated scenes in VOC layout, with void borders around the objects."""
    root = tmp_path_factory.mktemp("voc") / "shapes"
    generate("voc", root, train=24, val=19, size=96)
    return root


@pytest.fixture
def segmentation_recipe(detection_recipe, voc_folder) -> dict:
    """DeepLabv3 with an auxiliary head on a narrow MobileNetV1, two epochs, as dotted keys."""
    shared = ("common.", "sampler.", "optim.", "scheduler.", "model.classification.")
    recipe = {k: v for k, v in detection_recipe.items() if k.startswith(shared)}
    return recipe | {
        "dataset.root_train": str(voc_folder),
        "dataset.root_val": str(voc_folder),
        "dataset.name": "pascal",
        "dataset.category": "segmentation",
        "dataset.train_batch_size0": 6,
        "dataset.val_batch_size0": 7,
        "dataset.eval_batch_size0": 1,
        "dataset.workers": 0,
        "image_augmentation.random_short_size_resize.short_side_min": 80,
        "image_augmentation.random_short_size_resize.short_side_max": 140,
        "model.segmentation.name": "encoder_decoder",
        "model.segmentation.seg_head": "deeplabv3",
        "model.segmentation.output_stride": 16,
        "model.segmentation.use_aux_head": True,
        "model.segmentation.lr_multiplier": 4,
        "model.segmentation.deeplabv3.aspp_out_channels": 32,
        "stats.val": ["loss", "iou"],
        "stats.checkpoint_metric": "iou",
        "stats.checkpoint_metric_max": True,
    }


@pytest.fixture
def command():
    """Run `cvnets ...` as a process; `processes` starts it under torchrun."""

    def run(*words, processes=1, check=True, env=None, cwd=None, timeout=300):
        python = [sys.executable]
        if processes > 1:
            python += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
            python += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
        launcher = str(ROOT / "tests" / "launch.py")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | (env or {})
        done = subprocess.run(
            [*python, launcher, *map(str, words)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=cwd,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def words():
    """Turn a recipe of dotted keys into command-line words."""

    def convert(recipe: dict) -> list[str]:
        return [
            f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in recipe.items()
        ]

    return convert


@pytest.fixture
def as_command(tmp_path, words):
    """The words of `cvnets train` for a recipe of dotted keys, with changes."""

    def convert(recipe: dict, **changes) -> list[str]:
        empty = tmp_path / "empty.yaml"
        empty.write_text("")
        return ["train", str(empty), *words({**recipe, **changes})]

    return convert
