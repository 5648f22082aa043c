"""Changes of colour and brightness."""

from __future__ import annotations

from typing import Any

import cv2
import torch
from PIL import ImageFilter
from pydantic import Field, model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from data.kinds import TRANSFORMS, TransformOptions
from data.transforms.options import DetectionTransformOptions


class PhotoMetricDistortOptions(DetectionTransformOptions):
    """Random contrast, brightness, saturation, hue, and order of the colour channels."""

    alpha_min: float = Field(0.5, ge=0, description="contrast: least factor")
    alpha_max: float = Field(1.5, ge=0, description="contrast: largest factor")
    beta_min: float = Field(0.875, ge=0, description="brightness: least factor")
    beta_max: float = Field(1.125, ge=0, description="brightness: largest factor")
    gamma_min: float = Field(0.5, ge=0, description="saturation: least factor")
    gamma_max: float = Field(1.5, ge=0, description="saturation: largest factor")
    delta_min: float = Field(-0.05, ge=-0.5, le=0.5, description="hue: least shift, in turns")
    delta_max: float = Field(0.05, ge=-0.5, le=0.5, description="hue: largest shift, in turns")
    p: float = Field(0.5, ge=0, le=1, description="probability of each of the changes")

    @model_validator(mode="after")
    def _ranges(self) -> PhotoMetricDistortOptions:
        for name in ("alpha", "beta", "gamma", "delta"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low > high:
                raise ValueError(f"{name}_min: {low:g} is above {name}_max = {high:g}")
        return self


class PhotoMetricDistort(v2.RandomPhotometricDistort):  # type: ignore[misc]
    """Draws as torchvision's, and gives its images but for the rounding of hue."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image, uint8 [3, H, W] RGB, in other colours; boxes and masks as they are."""
        of_image = isinstance(inpt, tv_tensors.Image)
        if isinstance(inpt, tv_tensors.TVTensor) and not of_image:
            return inpt
        changes = [
            ("brightness_factor", functional.adjust_brightness),
            ("contrast_factor", functional.adjust_contrast),
            ("saturation_factor", functional.adjust_saturation),
            ("hue_factor", shift_hue),
        ]
        if not params["contrast_before"]:
            changes.append(changes.pop(1))
        changes.append(("channel_permutation", _permute))
        image = inpt
        for name, change in changes:
            image = image if params[name] is None else change(image, params[name])
        return tv_tensors.wrap(image, like=inpt) if of_image else image


def shift_hue(image: Tensor, shift: float) -> Tensor:
    """Turn the hue of uint8 [3, H, W] RGB by `shift` of a whole turn.

    Within one grey value of torchvision's `adjust_hue`, in a tenth of its time, which was most of
    what a training image of a detector costs.
    """
    channels, height, width = image.shape
    # One long row: OpenCV shares rows among threads of its own, and a loader's worker is to be one.
    row = image.permute(1, 2, 0).reshape(1, height * width, channels).float().numpy()
    colours = torch.from_numpy(cv2.cvtColor(row, cv2.COLOR_RGB2HSV))
    colours[..., 0] += shift % 1 * 360  # degrees; beyond 360 it starts again
    turned = torch.from_numpy(cv2.cvtColor(colours.numpy(), cv2.COLOR_HSV2RGB))
    turned = turned.round_().to(torch.uint8)
    return turned.reshape(height, width, channels).permute(2, 0, 1)


def _permute(image: Tensor, order: Tensor) -> Tensor:
    return image[order]


@TRANSFORMS.register("photo_metric_distort", options=PhotoMetricDistortOptions)
def photo_metric_distort(
    options: PhotoMetricDistortOptions, *, size: tuple[int, int]
) -> PhotoMetricDistort:
    """The image in other colours (Liu et al., SSD, ECCV 2016)."""
    return PhotoMetricDistort(
        contrast=(options.alpha_min, options.alpha_max),
        brightness=(options.beta_min, options.beta_max),
        saturation=(options.gamma_min, options.gamma_max),
        hue=(options.delta_min, options.delta_max),
        p=options.p,
    )


class ColorJitterOptions(TransformOptions):
    """Random brightness, contrast, saturation and hue, in random order."""

    brightness: float = Field(0.4, ge=0, description="factor: within 1 +- this, at least 0")
    contrast: float = Field(0.4, ge=0, description="factor: within 1 +- this, at least 0")
    saturation: float = Field(0.4, ge=0, description="factor: within 1 +- this, at least 0")
    hue: float = Field(0.0, ge=0, le=0.5, description="shift: within +- this, in turns")


@TRANSFORMS.register("color_jitter", options=ColorJitterOptions)
def color_jitter(options: ColorJitterOptions, *, size: tuple[int, int]) -> v2.ColorJitter:
    """The image in other colours; what is 0 stays as it is. Boxes and masks as they are."""
    return v2.ColorJitter(options.brightness, options.contrast, options.saturation, options.hue)


class GaussianNoiseOptions(TransformOptions):
    """Noise, independent for each pixel and channel (not official)."""

    std: float = Field(0.05, ge=0, description="standard deviation, of values in [0, 1]")
    p: float = Field(0.5, ge=0, le=1, description="probability")


@TRANSFORMS.register("gaussian_noise", options=GaussianNoiseOptions)
def gaussian_noise(options: GaussianNoiseOptions, *, size: tuple[int, int]) -> v2.RandomApply:
    """The image with normal noise added, clipped to 0..255; boxes and masks as they are."""
    return v2.RandomApply([v2.GaussianNoise(sigma=options.std)], options.p)


class RandomGaussianNoiseOptions(TransformOptions):
    """A slight blur; the name is that of the official option, which adds no noise either."""

    p: float = Field(0.5, ge=0, le=1, description="probability")


class GaussianBlur(v2.Transform):  # type: ignore[misc]
    """A blur of a random radius, uniform in 0..1 pixels; boxes and masks as they are."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The radius: the standard deviation of the Gaussian, pixels."""
        return {"radius": float(torch.rand(()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image, uint8 [3, H, W], blurred by PIL, as officially."""
        of_image = isinstance(inpt, tv_tensors.Image)
        if isinstance(inpt, tv_tensors.TVTensor) and not of_image:
            return inpt
        picture = functional.to_pil_image(inpt).filter(ImageFilter.GaussianBlur(params["radius"]))
        image = functional.pil_to_tensor(picture)
        return tv_tensors.wrap(image, like=inpt) if of_image else image


@TRANSFORMS.register("random_gaussian_noise", options=RandomGaussianNoiseOptions)
def random_gaussian_noise(
    options: RandomGaussianNoiseOptions, *, size: tuple[int, int]
) -> v2.RandomApply:
    """The image blurred by a Gaussian of a standard deviation up to a pixel; masks as they are."""
    return v2.RandomApply([GaussianBlur()], options.p)
