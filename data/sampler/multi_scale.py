"""Each step draws one of several image sizes; the batch size stays."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, model_validator

from config.errors import UserError
from config.options import Options
from data.kinds import SAMPLERS
from data.sampler.plan import Size


class MultiScaleOptions(Options):
    """`sampler.msc`: the range of sizes, all in pixels."""

    crop_size_width: int = Field(256, ge=8, description="base width, also of evaluation, pixels")
    crop_size_height: int = Field(256, ge=8, description="base height, also of evaluation, pixels")
    min_crop_size_width: int = Field(160, ge=8, description="smallest width, pixels")
    max_crop_size_width: int = Field(320, ge=8, description="largest width, pixels")
    min_crop_size_height: int = Field(160, ge=8, description="smallest height, pixels")
    max_crop_size_height: int = Field(320, ge=8, description="largest height, pixels")
    max_n_scales: int = Field(
        5, ge=1, description="how many sizes lie between smallest and largest"
    )
    check_scale: int = Field(32, ge=1, description="every size is a multiple of this, pixels")
    scale_inc: bool = Field(
        False, description="grow the range of sizes; only the variable-batch sampler does it"
    )

    @model_validator(mode="after")
    def _ranges(self) -> MultiScaleOptions:
        for side in ("width", "height"):
            low, high = (
                getattr(self, f"min_crop_size_{side}"),
                getattr(self, f"max_crop_size_{side}"),
            )
            if low > high:
                raise ValueError(
                    f"min_crop_size_{side}: {low} is larger than max_crop_size_{side} = {high}; "
                    "lower the one or raise the other"
                )
        return self


def size_list(
    options: MultiScaleOptions, *, grow: tuple[float, float] = (1.0, 1.0)
) -> list[tuple[int, int]]:
    """The (height, width) pairs between smallest and largest, base included, ascending.

    `grow` multiplies the smallest and the largest sides. UserError if the width and height
    ranges do not give the same number of sizes, for then they cannot be paired.
    """
    sides = []
    for side in ("height", "width"):
        low = int(getattr(options, f"min_crop_size_{side}") * grow[0])
        high = int(getattr(options, f"max_crop_size_{side}") * grow[1])
        scales = [int(scale) for scale in np.linspace(low, high, options.max_n_scales)]
        scales.append(getattr(options, f"crop_size_{side}"))
        sides.append(sorted({make_divisible(scale, options.check_scale) for scale in scales}))
    heights, widths = sides
    if len(heights) != len(widths):
        raise UserError(
            f"sampler: the height range gives {heights} and the width range {widths}: choose ranges "
            "that give equally many sizes, so that they can be paired"
        )
    return list(zip(heights, widths, strict=True))


def make_divisible(value: int, divisor: int) -> int:
    """`value` rounded to a multiple of `divisor`, up if rounding would lose more than a tenth."""
    rounded = max(divisor, math.floor((value + divisor / 2) / divisor) * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@SAMPLERS.register("multi_scale_sampler", key="msc", options=MultiScaleOptions)
class MultiScaleSampler:
    """Several image sizes with a constant batch."""

    def __init__(self, options: MultiScaleOptions, *, batch_size: int):
        self.base = Size(options.crop_size_height, options.crop_size_width, batch_size)
        self._sizes = [Size(height, width, batch_size) for height, width in size_list(options)]

    def sizes(self, epoch: int) -> list[Size]:
        return self._sizes

    def notes(self) -> list[str]:
        return []
