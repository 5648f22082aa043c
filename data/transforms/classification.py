"""Pipelines of classification: uint8 [H, W, 3] in, uint8 [3, h, w] out.

Randomness comes from torch's global generator, which the loader seeds for every sample.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import v2

from config.errors import UserError
from data.sample import Sample, SampleKey
from data.transforms.interpolation import INTERPOLATIONS
from data.transforms.pipeline import Pipeline
from data.transforms.section import Extent, ImageAugmentationSection

Image = npt.NDArray[np.uint8]
# Official recipes of the first release name no sizes for evaluation: it was the base + 32.
RESIZE_MARGIN = 32
POLICIES = ("auto_augment", "rand_augment", "trivial_augment_wide")  # one of them
# What `random_order` shuffles.
MIDDLE = (
    "random_horizontal_flip",
    "random_rotate",
    *POLICIES,
    "color_jitter",
    "photo_metric_distort",
    "random_gaussian_noise",
    "gaussian_noise",
)
# What training does, in this order; the user's own transforms follow (see `Pipeline`).
ORDER = ("random_resized_crop", *MIDDLE, "random_erase")


class TrainingTransform:
    """The transforms that are enabled, to the size of the key."""

    def __init__(self, options: ImageAugmentationSection):
        chosen = [name for name in POLICIES if name in options.enabled]
        if len(chosen) > 1:
            raise UserError(
                f"image_augmentation.{chosen[1]}: it is a policy like {chosen[0]}, which is enabled "
                "as well; switch one of them off"
            )
        self._pipeline = Pipeline(options, ORDER, MIDDLE)

    def __call__(self, image: Image, target: int, key: SampleKey) -> Sample:
        out = self._pipeline(as_tensor(image), (key.height, key.width))
        return Sample(out, target, image.shape[:2])


class EvaluationTransform:
    """Resize and centre crop; without these in the recipe, to the base size of the sampler."""

    def __init__(self, options: ImageAugmentationSection):
        # not the section itself: loader workers get this pickled, and its type may be a composed one
        self.options = ImageAugmentationSection(
            resize=options.resize, center_crop=options.center_crop
        )

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
