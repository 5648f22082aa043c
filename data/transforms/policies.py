"""Policies of augmentation: a few operations on colours and geometry, drawn anew for every image.

At most one of the three is enabled. They go through PIL, as officially: it is faster at this than
torch on the CPU, and has the bicubic filter for turned images.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from PIL.Image import Image, Resampling
from pydantic import Field, model_validator
from torchvision.transforms import v2

from config.errors import UserError
from data.kinds import TRANSFORMS, TransformOptions
from data.transforms.interpolation import INTERPOLATIONS, Interpolation, through_pil
from data.transforms.pipeline import ImageOnly

FILTER = "filter of turned and sheared images"


class AutoAugmentOptions(TransformOptions):
    """A pair of operations that was found by search (Cubuk et al., AutoAugment, CVPR 2019)."""

    policy: Literal["imagenet", "cifar10", "svhn"] = Field(
        "imagenet", description="the data set that the pairs were found on"
    )
    interpolation: Interpolation = Field("bilinear", description=FILTER)


@TRANSFORMS.register("auto_augment", options=AutoAugmentOptions)
def auto_augment(options: AutoAugmentOptions, *, size: tuple[int, int]) -> ImageOnly:
    """One of 25 pairs of operations (Cubuk et al., AutoAugment, CVPR 2019)."""
    policy = v2.AutoAugmentPolicy(options.policy)
    change = v2.AutoAugment(policy, INTERPOLATIONS[options.interpolation])
    return ImageOnly("auto_augment", through_pil(change))


class RandAugmentOptions(TransformOptions):
    """Random operations of one strength (Cubuk et al., RandAugment, CVPR 2020 workshops)."""

    num_ops: int = Field(2, ge=1, description="operations per image")
    magnitude: int = Field(9, ge=0, description="strength: which bin, from 0")
    num_magnitude_bins: int = Field(31, ge=2, description="bins from no strength to the most")
    interpolation: Interpolation = Field("bilinear", description=FILTER)
    use_timm_library: bool = Field(False, description="the operations of timm instead")
    timm_config_str: str = Field(
        "rand-m9-mstd0.5-inc1", description="what timm is to do, in its words"
    )

    @model_validator(mode="after")
    def _within_the_bins(self) -> RandAugmentOptions:
        if self.magnitude >= self.num_magnitude_bins:
            raise ValueError(
                f"magnitude: {self.magnitude} is not below num_magnitude_bins = "
                f"{self.num_magnitude_bins}"
            )
        return self


@TRANSFORMS.register("rand_augment", options=RandAugmentOptions)
def rand_augment(options: RandAugmentOptions, *, size: tuple[int, int]) -> ImageOnly:
    """Operations drawn from 14, of one strength (Cubuk et al., RandAugment, CVPRW 2020)."""
    mode = INTERPOLATIONS[options.interpolation]
    if options.use_timm_library:
        change = _timm_rand_augment(options)
    else:
        change = v2.RandAugment(
            options.num_ops, options.magnitude, options.num_magnitude_bins, mode
        )
    return ImageOnly("rand_augment", through_pil(change))


class TrivialAugmentWideOptions(TransformOptions):
    """One random operation of a random strength (Müller, Hutter, TrivialAugment, ICCV 2021)."""

    num_magnitude_bins: int = Field(31, ge=2, description="bins from no strength to the most")
    interpolation: Interpolation = Field("bilinear", description=FILTER)


@TRANSFORMS.register("trivial_augment_wide", options=TrivialAugmentWideOptions)
def trivial_augment_wide(options: TrivialAugmentWideOptions, *, size: tuple[int, int]) -> ImageOnly:
    """One of 14 operations, in the wide ranges (Müller, Hutter, TrivialAugment, ICCV 2021)."""
    mode = INTERPOLATIONS[options.interpolation]
    change = v2.TrivialAugmentWide(options.num_magnitude_bins, mode)
    return ImageOnly("trivial_augment_wide", through_pil(change))


def _timm_rand_augment(options: RandAugmentOptions) -> Callable[[Image], Image]:
    key = "image_augmentation.rand_augment"
    try:
        timm = importlib.import_module("timm.data.auto_augment")
    except ImportError:
        raise UserError(
            f"{key}.use_timm_library: timm is not installed; pip install timm, or set it to false"
        ) from None
    about = {"interpolation": Resampling[INTERPOLATIONS[options.interpolation].name]}
    try:
        change = timm.rand_augment_transform(options.timm_config_str, about)
    except (AssertionError, ValueError):
        raise UserError(
            f"{key}.timm_config_str: timm does not understand {options.timm_config_str!r}; it is "
            "like rand-m9-mstd0.5-inc1"
        ) from None

    def changed(image: Image) -> Image:
        with _foreign_generators():
            return change(image)

    return changed


@contextmanager
def _foreign_generators() -> Iterator[None]:
    """Python's and NumPy's generators, from which timm draws, start from torch's in here.

    So the image depends on the sample alone; what others draw from them is not disturbed.
    """
    seed = int(torch.randint(2**32, ()))
    states: tuple[Any, Any] = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
