"""Random sizes of whole images and their masks, aspect ratio kept."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from data.kinds import TRANSFORMS, TransformOptions
from data.transforms.interpolation import INTERPOLATIONS, Interpolation
from data.transforms.masks import needs_mask, resize_both
from data.transforms.options import SegmentationTransformOptions


class RandomShortSizeResizeOptions(SegmentationTransformOptions):
    """A random short side."""

    short_side_min: int = Field(256, ge=1, description="least short side, pixels")
    short_side_max: int = Field(768, ge=1, description="largest short side, pixels")
    max_img_dim: int | None = Field(
        1024, ge=1, description="largest long side, which wins, pixels; null: no limit"
    )
    interpolation: Interpolation = Field("bicubic", description="filter of the image, antialiased")

    @model_validator(mode="after")
    def _ranges(self) -> RandomShortSizeResizeOptions:
        if self.short_side_min > self.short_side_max:
            raise ValueError(
                f"short_side_min: {self.short_side_min} is above short_side_max = "
                f"{self.short_side_max}"
            )
        return self


@TRANSFORMS.register("random_short_size_resize", options=RandomShortSizeResizeOptions)
class RandomShortSizeResize:
    """Image and mask with a short side drawn from a range of whole numbers, both ends included."""

    def __init__(self, options: RandomShortSizeResizeOptions, *, size: tuple[int, int]):
        self.options = options

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if mask is None:
            raise needs_mask("random_short_size_resize")
        options, (height, width) = self.options, mask.shape
        side = _whole_number(options.short_side_min, options.short_side_max)
        scale = capped(side / min(height, width), max(height, width), options.max_img_dim)
        mode = INTERPOLATIONS[options.interpolation]
        return resize_both(image, mask, scaled(height, width, scale), mode)


class RandomResizeOptions(TransformOptions):
    """A random scale, or with `min_size` and `max_size` a random short side."""

    min_ratio: float = Field(0.5, gt=0, description="least scale")
    max_ratio: float = Field(2.0, gt=0, description="largest scale")
    min_size: int | None = Field(
        None, ge=1, description="least short side, pixels; given, the ratios do not count"
    )
    max_size: int | None = Field(
        None, ge=1, description="largest short side, pixels; given, the ratios do not count"
    )
    max_scale_long_edge: int | None = Field(
        None, ge=1, description="largest long side, pixels; null: no limit"
    )
    max_scale_short_edge: int | None = Field(
        None, ge=1, description="largest short side, pixels; null: no limit"
    )
    interpolation: Interpolation = Field("bilinear", description="filter of the image, antialiased")

    @model_validator(mode="after")
    def _ranges(self) -> RandomResizeOptions:
        if (self.min_size is None) != (self.max_size is None):
            raise ValueError("min_size: give max_size as well, or neither")
        for name in ("ratio", "size"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and low > high:
                raise ValueError(f"min_{name}: {low:g} is above max_{name} = {high:g}")
        return self


@TRANSFORMS.register("random_resize", options=RandomResizeOptions)
class RandomResize:
    """Image and mask at a random scale, in place of `random_short_size_resize`."""

    def __init__(self, options: RandomResizeOptions, *, size: tuple[int, int]):
        self.options = options

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if mask is None:
            raise needs_mask("random_resize")
        options, (height, width) = self.options, mask.shape
        if options.min_size is not None and options.max_size is not None:
            scale = _whole_number(options.min_size, options.max_size) / min(height, width)
        else:
            share = float(torch.rand(()))
            scale = options.min_ratio + share * (options.max_ratio - options.min_ratio)
        scale = capped(scale, max(height, width), options.max_scale_long_edge)
        scale = capped(scale, min(height, width), options.max_scale_short_edge)
        mode = INTERPOLATIONS[options.interpolation]
        return resize_both(image, mask, scaled(height, width, scale), mode)


def capped(scale: float, side: int, most: int | None) -> float:
    """The scale, or the largest one at which a side is not longer than `most` pixels."""
    return scale if most is None else min(scale, most / side)


def scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    """(h, w) at a scale, at least one pixel each."""
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _whole_number(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))
