"""A transform of training images."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from data.kinds import TRANSFORMS, TransformOptions


class TinyNoiseOptions(TransformOptions):
    """`image_augmentation.tiny_noise`; `enable` comes from the base class."""

    share: float = Field(0.05, ge=0, le=1, description="share of the pixels")
    value: int = Field(255, ge=0, le=255, description="what they become, in all channels")


@TRANSFORMS.register("tiny_noise", options=TinyNoiseOptions)
class TinyNoise:
    """Paints some pixels white."""

    def __init__(self, options: TinyNoiseOptions, *, size: tuple[int, int]):
        self.options, self.size = options, size

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 [3, h, w] -> the same; draws from torch's generator, which is seeded per sample."""
        hit = torch.rand(self.size) < self.options.share
        return image.masked_fill(hit, self.options.value)
