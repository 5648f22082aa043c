"""`image_augmentation`: the options of the transforms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from config.options import Options

Interpolation = Literal["nearest", "bilinear", "bicubic", "cubic"]
Extent = int | tuple[int, int]


class RandomResizedCropOptions(Options):
    """A random part of the image, resized to the size that the sampler drew."""

    enable: bool = Field(False, description="crop at random when training")
    interpolation: Interpolation = Field(
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


class RandomHorizontalFlipOptions(Options):
    """Mirror the image."""

    enable: bool = Field(False, description="flip at random when training")
    p: float = Field(0.5, ge=0, le=1, description="probability")


class _ExtentOptions(Options):
    """What has an extent in pixels."""

    size: Extent

    @model_validator(mode="after")
    def _at_least_a_pixel(self) -> _ExtentOptions:
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if min(sides) < 1:
            raise ValueError(f"size: must be at least 1 pixel ({', '.join(map(str, sides))} given)")
        return self


class ResizeOptions(_ExtentOptions):
    """The first step of evaluation."""

    enable: bool = Field(False, description="resize when evaluating")
    size: Extent = Field(256, description="short side, or (height, width), pixels")
    interpolation: Interpolation = Field("bilinear", description="filter, antialiased")


class CenterCropOptions(_ExtentOptions):
    """The second step of evaluation."""

    enable: bool = Field(False, description="crop the centre when evaluating")
    size: Extent = Field(224, description="side, or (height, width), pixels")


class NormalizationOptions(Options):
    """Mean and standard deviation of the channels; official recipes use none."""

    enable: bool = Field(False, description="subtract the mean, divide by the deviation")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="RGB, of [0, 1]")
    std: tuple[float, float, float] = Field((0.229, 0.224, 0.225), description="RGB, of [0, 1]")


class ToTensorOptions(Options):
    """From uint8 to what the network receives."""

    mean_std_normalization: NormalizationOptions = Field(
        default_factory=NormalizationOptions, description="mean and deviation of the channels"
    )


class ImageAugmentationSection(Options):
    """`image_augmentation`."""

    random_resized_crop: RandomResizedCropOptions = Field(
        default_factory=RandomResizedCropOptions, description="training: random part of the image"
    )
    random_horizontal_flip: RandomHorizontalFlipOptions = Field(
        default_factory=RandomHorizontalFlipOptions, description="training: mirror"
    )
    resize: ResizeOptions = Field(default_factory=ResizeOptions, description="evaluation: resize")
    center_crop: CenterCropOptions = Field(
        default_factory=CenterCropOptions, description="evaluation: crop the centre"
    )
    to_tensor: ToTensorOptions = Field(
        default_factory=ToTensorOptions, description="from uint8 to the network's input"
    )
