"""A whole task in thirty lines: say whether the left or the right half of an image is brighter."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from config.registry import NoOptions
from data.loader import Source
from data.sample import Sample
from engine.kinds import METRICS, TASKS
from engine.task import Task
from loss_fn.output import LossOutput


class Halves:
    def __len__(self):
        return 64

    def load(self, index):
        image = np.random.default_rng(index).integers(0, 120, (16, 16, 3), dtype=np.uint8)
        image[:, 8 * (index % 2) : 8 * (index % 2) + 8] += 120
        return image, float(index % 2)

    def describe(self, index):
        return f"halves {index}"


def as_sample(image, target, key):
    return Sample(torch.from_numpy(image).permute(2, 0, 1), target, image.shape[:2])


class Loss(nn.Module):
    def forward(self, images, outputs, targets):
        return LossOutput(bce(outputs.flatten(), targets))


@METRICS.register("brighter_side")
class Accuracy:
    def __init__(self, options):
        self.right = []

    def update(self, seen):
        self.right += ((seen.outputs.flatten() > 0) == (seen.targets > 0.5)).tolist()

    def step(self, gradient_norm):
        pass

    def state(self):
        return self.right

    def result(self, states):
        return 100.0 * sum(map(sum, states)) / sum(map(len, states))


@TASKS.register("brighter_half")
class BrighterHalf(Task):
    def __init__(self, options: NoOptions, *, recipe):
        super().__init__(recipe)

    def build_source(self, split):
        return Source(Halves(), as_sample, torch.tensor, replace_bad=False)

    def build_model(self):
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 1))

    def build_loss(self):
        return Loss()
