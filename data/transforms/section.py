"""`image_augmentation`: what training and evaluation do to an image."""

from __future__ import annotations

from pydantic import Field, model_validator

from config.options import Options
from data.kinds import TRANSFORMS
from data.transforms.interpolation import Interpolation
from data.transforms.mixing import CutmixOptions, MixupOptions

Extent = int | tuple[int, int]


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
    size: Extent = Field(
        256,
        description="short side, or (height, width), pixels; in detection one number is a square",
    )
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
    """`image_augmentation`: evaluation, mixing; each transform of an image has a section besides."""

    resize: ResizeOptions = Field(default_factory=ResizeOptions, description="evaluation: resize")
    center_crop: CenterCropOptions = Field(
        default_factory=CenterCropOptions, description="evaluation: crop the centre"
    )
    to_tensor: ToTensorOptions = Field(
        default_factory=ToTensorOptions, description="from uint8 to the network's input"
    )
    mixup: MixupOptions = Field(
        default_factory=MixupOptions, description="classification: sums of two training images"
    )
    cutmix: CutmixOptions = Field(
        default_factory=CutmixOptions, description="classification: parts of others in images"
    )

    @property
    def enabled(self) -> tuple[str, ...]:
        """Names of the transforms of training that are enabled, sorted."""
        entries = [TRANSFORMS[name] for name in TRANSFORMS.names()]
        return tuple(
            entry.name
            for entry in entries
            for key in entry.sections
            if key in self.fields() and getattr(self, key).enable
        )
