"""The random crop of segmentation, to the size that the sampler drew."""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from data.kinds import TRANSFORMS
from data.transforms.masks import needs_mask, resize_both
from data.transforms.options import SegmentationTransformOptions

TRIALS = 10  # crops drawn until one has more than one class
UNLABELLED = 255  # in files; does not count in `seg_class_max_ratio`


class RandomCropOptions(SegmentationTransformOptions):
    """A random part of image and mask, of the size that the sampler drew."""

    seg_class_max_ratio: float | None = Field(
        None,
        gt=0,
        le=1,
        description="draw again while one class has this share of the labelled pixels or more; "
        "null: take the first crop",
    )
    pad_if_needed: bool = Field(
        False, description="fill small images up at their right and bottom; false: enlarge them"
    )
    resize_if_needed: bool = Field(
        False, description="enlarge small images (first release), as without pad_if_needed"
    )
    mask_fill: int = Field(
        255,
        ge=0,
        le=255,
        description="value of the filled part of a mask, as in its file; 255: not labelled",
    )

    @model_validator(mode="after")
    def _one_remedy(self) -> RandomCropOptions:
        if self.pad_if_needed and self.resize_if_needed:
            raise ValueError("resize_if_needed: not together with pad_if_needed; choose one")
        return self


@TRANSFORMS.register("random_crop", options=RandomCropOptions)
class RandomCrop:
    """A random part of image and mask; small images are filled up (black) or enlarged before."""

    def __init__(self, options: RandomCropOptions, *, size: tuple[int, int]):
        self.options, self.size = options, size

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if mask is None:
            raise needs_mask("random_crop")
        image, mask = self._large_enough(image, mask)
        top, left = self._corner(mask)
        return (
            functional.crop(image, top, left, *self.size),
            functional.crop(mask, top, left, *self.size),
        )

    def _large_enough(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        (height, width), (own_height, own_width) = self.size, mask.shape
        if own_height >= height and own_width >= width:
            return image, mask
        if self.options.pad_if_needed:
            edges = [0, 0, max(width - own_width, 0), max(height - own_height, 0)]
            return (
                functional.pad(image, edges, fill=0),
                functional.pad(mask, edges, fill=self.options.mask_fill),
            )
        scale = max(height / own_height, width / own_width)
        # rounded up to guard against 511.999
        enlarged = math.ceil(own_height * scale - 1e-6), math.ceil(own_width * scale - 1e-6)
        return resize_both(image, mask, enlarged, InterpolationMode.BILINEAR)

    def _corner(self, mask: Tensor) -> tuple[int, int]:
        """(top, left) of the first crop with more than one class, else of the last one drawn."""
        (height, width), limit = self.size, self.options.seg_class_max_ratio
        for _ in range(1 if limit is None else TRIALS):
            top = int(torch.randint(mask.shape[0] - height + 1, ()))
            left = int(torch.randint(mask.shape[1] - width + 1, ()))
            if limit is None or _varied(mask[top : top + height, left : left + width], limit):
                break
        return top, left


def _varied(mask: Tensor, limit: float) -> bool:
    """Whether the largest class of uint8 [h, w] has less than this share of the labelled pixels."""
    counts = torch.bincount(mask.as_subclass(Tensor).flatten(), minlength=UNLABELLED + 1)
    counts[UNLABELLED] = 0
    return int((counts > 0).sum()) > 1 and float(counts.max()) < limit * float(counts.sum())
