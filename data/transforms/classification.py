"""Pipelines of classification: uint8 [H, W, 3] in, uint8 [3, h, w] out.

Randomness comes from torch's global generator, which the loader seeds for every sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import v2

from data.sample import Sample, SampleKey
from data.transforms.section import Extent, ImageAugmentationSection

Image = npt.NDArray[np.uint8]
# Official recipes of the first release name no sizes for evaluation: it was the base + 32.
RESIZE_MARGIN = 32

INTERPOLATIONS = {
    "nearest": v2.InterpolationMode.NEAREST,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "bicubic": v2.InterpolationMode.BICUBIC,
    "cubic": v2.InterpolationMode.BICUBIC,
}


class TrainingTransform:
    """Random resized crop to the key's size and a random flip, each as the options say."""

    def __init__(self, options: ImageAugmentationSection):
        self.options = options

    def __call__(self, image: Image, target: int, key: SampleKey) -> Sample:
        out = _pipeline(self.options, key.height, key.width)(as_tensor(image))
        return Sample(out, target, image.shape[:2])


class EvaluationTransform:
    """Resize and centre crop; without these in the recipe, to the base size of the sampler."""

    def __init__(self, options: ImageAugmentationSection):
        self.options = options

    def __call__(self, image: Image, target: int, key: SampleKey) -> Sample:
        return Sample(self._pixels(image, key), target, image.shape[:2])

    def _pixels(self, image: Image, key: SampleKey) -> Tensor:
        extent, size = evaluation_extents(self.options, key.height, key.width)
        mode = INTERPOLATIONS[self.options.resize.interpolation]
        out: Tensor = v2.functional.resize(
            as_tensor(image), _pair_or_side(extent), mode, antialias=True
        )
        return out if size is None else v2.functional.center_crop(out, list(size))


def evaluation_extents(
    options: ImageAugmentationSection, height: int, width: int
) -> tuple[Extent, tuple[int, int] | None]:
    """Pixels of resize (short side, or height and width) and of the centre crop, None for no crop.

    `height`, `width`: the base size of the sampler, which counts where the recipe says nothing.
    """
    resize, crop = options.resize, options.center_crop
    extent = resize.size if resize.enable else min(height, width) + RESIZE_MARGIN
    if isinstance(extent, tuple) and not crop.enable:
        return extent, None
    return extent, _pair(crop.size) if crop.enable else (height, width)


def as_tensor(image: Image) -> Tensor:
    """uint8 [H, W, 3] -> [3, H, W], a view (channels last, which torchvision resizes fastest)."""
    return torch.from_numpy(image).permute(2, 0, 1)


def _pair(size: Extent) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _pair_or_side(size: Extent) -> list[int]:
    return [size] if isinstance(size, int) else list(size)


@functools.lru_cache(maxsize=64)
def _pipeline(
    options: ImageAugmentationSection, height: int, width: int
) -> Callable[[Tensor], Tensor]:
    """The training transforms for one image size; built once per size, not per image."""
    crop, flip = options.random_resized_crop, options.random_horizontal_flip
    mode = INTERPOLATIONS[crop.interpolation]
    steps: list[Callable[[Tensor], Tensor]] = []
    if crop.enable:
        steps.append(
            v2.RandomResizedCrop(
                (height, width), crop.scale, crop.aspect_ratio, mode, antialias=True
            )
        )
    else:
        steps.append(v2.Resize((height, width), mode, antialias=True))
    if flip.enable:
        steps.append(v2.RandomHorizontalFlip(flip.p))
    return v2.Compose(steps)
