"""Which part of an image is seen, and from which side."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field, model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.kinds import TRANSFORMS, TransformOptions
from data.transforms.interpolation import (
    INTERPOLATIONS,
    OF_PIL_ONLY,
    PilInterpolation,
    through_pil,
)
from data.transforms.options import DenseTransformOptions
from data.transforms.pipeline import ImageOnly


class RandomResizedCropOptions(TransformOptions):
    """A random part of the image, resized to the size that the sampler drew."""

    enable: bool = Field(False, description="crop at random when training")
    interpolation: PilInterpolation = Field(
        "bilinear", description="filter of the resize, antialiased"
    )
    scale: tuple[float, float] = Field((0.08, 1.0), description="share of the image's area, range")
    aspect_ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="width over height of the crop, range"
    )

    @model_validator(mode="after")
    def _ranges(self) -> RandomResizedCropOptions:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale: {list(self.scale)} is no range within (0, 1]")
        if not 0 < self.aspect_ratio[0] <= self.aspect_ratio[1]:
            raise ValueError(
                f"aspect_ratio: {list(self.aspect_ratio)} is no range of positive numbers"
            )
        return self


@TRANSFORMS.register("random_resized_crop", options=RandomResizedCropOptions)
def random_resized_crop(
    options: RandomResizedCropOptions, *, size: tuple[int, int]
) -> Callable[[Tensor], Tensor]:
    """A random part of the image, resized; the whole image where it is not enabled."""
    mode = INTERPOLATIONS[options.interpolation]
    if options.enable:
        change = v2.RandomResizedCrop(
            size, options.scale, options.aspect_ratio, mode, antialias=True
        )
    else:
        change = v2.Resize(size, mode, antialias=True)
    return through_pil(change) if options.interpolation in OF_PIL_ONLY else change


class RandomHorizontalFlipOptions(DenseTransformOptions):
    """Mirror the image."""

    p: float = Field(0.5, ge=0, le=1, description="probability")


@TRANSFORMS.register("random_horizontal_flip", options=RandomHorizontalFlipOptions)
def random_horizontal_flip(
    options: RandomHorizontalFlipOptions, *, size: tuple[int, int]
) -> v2.RandomHorizontalFlip:
    """The mirrored image, with a probability."""
    return v2.RandomHorizontalFlip(options.p)


class RandomRotateOptions(TransformOptions):
    """Turn the image about its centre."""

    angle: float = Field(10.0, ge=0, le=180, description="largest angle either way, degrees")
    mask_fill: int = Field(
        255,
        ge=0,
        le=255,
        description="value of the empty corners of a mask, as in its file; 255: not labelled",
    )


@TRANSFORMS.register("random_rotate", options=RandomRotateOptions)
def random_rotate(options: RandomRotateOptions, *, size: tuple[int, int]) -> v2.RandomRotation:
    """Image and mask turned by one angle, uniform in +-`angle`; empty corners of images are black."""
    return v2.RandomRotation(
        options.angle,
        v2.InterpolationMode.BILINEAR,  # of images; masks are always sampled
        fill={tv_tensors.Mask: options.mask_fill, "others": 0},
    )


class RandomEraseOptions(TransformOptions):
    """Erase a rectangle (Zhong et al., Random Erasing Data Augmentation, AAAI 2020)."""

    p: float = Field(0.5, ge=0, le=1, description="probability")


@TRANSFORMS.register("random_erase", options=RandomEraseOptions)
def random_erase(options: RandomEraseOptions, *, size: tuple[int, int]) -> ImageOnly:
    """A black rectangle of 2 to 33 % of the image, 0.3 to 3.3 times as high as wide."""
    return ImageOnly("random_erase", v2.RandomErasing(options.p))
