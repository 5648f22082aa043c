"""A whole task in thirty lines: say whether the left or the right half of an image is brighter."""

import numpy as np
import torch
from torch import nn

from data.loader import Source
from data.sample import Sample
from engine.kinds import TASKS
from engine.task import Task
from loss_fn.classification.cross_entropy import CrossEntropy, CrossEntropyOptions


class Halves:
    def __len__(self):
        return 64

    def load(self, index):
        image = np.random.default_rng(index).integers(0, 120, (16, 16, 3), dtype=np.uint8)
        image[:, 8 * (index % 2) : 8 * (index % 2) + 8] += 120
        return image, index % 2

    def describe(self, index):
        return f"halves {index}"


def as_sample(image, target, key):
    return Sample(torch.from_numpy(image).permute(2, 0, 1), target, image.shape[:2])


@TASKS.register("brighter_half")
class BrighterHalf(Task):
    def __init__(self, options, *, recipe):
        super().__init__(recipe)

    def build_source(self, split):
        return Source(Halves(), as_sample, torch.tensor, replace_bad=False)

    def build_model(self):
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 2))

    def build_loss(self, section):
        return CrossEntropy(CrossEntropyOptions())
