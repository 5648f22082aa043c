"""The boxes that a detector starts from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor

from config.options import Options
from cvnets.kinds import ANCHOR_GENERATORS

GLOBAL = -1  # the "stride" of the level that is one cell, the whole image
_CACHED_SIZES = 64  # sets of map sizes; training has few, evaluation at native sizes many

Sizes = tuple[tuple[int, int], ...]


class SSDAnchorOptions(Options):
    """Anchors of SSD; the defaults are those of the official MobileViT detectors."""

    output_strides: tuple[int, ...] = Field(
        (16, 32, 64, 128, 256, GLOBAL),
        min_length=1,
        description="image size over map size of each level, in pixels; -1: one cell for the image",
    )
    aspect_ratios: tuple[tuple[float, ...], ...] = Field(
        ((2.0, 3.0),) * 5 + ((2.0,),),
        description="width over height of further anchors, a list for each level; each ratio r "
        "gives one anchor of r and one of 1 / r",
    )
    min_scale_ratio: float = Field(
        0.1, gt=0.0, description="side of the anchors of the first level, in shares of the image"
    )
    max_scale_ratio: float = Field(
        1.05, gt=0.0, description="upper end of the scale, one step behind the last level"
    )
    no_clipping: bool = Field(False, description="leave numbers of anchors that are beyond 0 and 1")
    step: tuple[int, ...] = Field(
        (1,), min_length=1, description="every how many cells there are anchors; only 1 is possible"
    )

    @model_validator(mode="after")
    def _fits(self) -> SSDAnchorOptions:
        levels, lists = len(self.output_strides), len(self.aspect_ratios)
        if levels != lists:
            raise ValueError(
                f"aspect_ratios: {lists} lists for the {levels} levels of output_strides; "
                "give one list for each level"
            )
        if any(stride < 1 and stride != GLOBAL for stride in self.output_strides):
            raise ValueError(
                "output_strides: a stride must be at least 1, or -1 for the whole image"
            )
        if any(ratio <= 0 for ratios in self.aspect_ratios for ratio in ratios):
            raise ValueError("aspect_ratios: a ratio must be greater than 0")
        if self.min_scale_ratio > self.max_scale_ratio:
            raise ValueError(
                f"min_scale_ratio: {self.min_scale_ratio:g} is greater than max_scale_ratio, "
                f"{self.max_scale_ratio:g}"
            )
        if set(self.step) != {1}:
            raise ValueError(
                "step: only 1 is possible: every cell has anchors, because the network predicts "
                "boxes for every cell"
            )
        return self


@ANCHOR_GENERATORS.register("ssd", options=SSDAnchorOptions)
class SSDAnchors:
    """Anchors of several shapes around the centre of each cell of each map.

    Single Shot MultiBox Detector (Liu et al., ECCV 2016), section 2.2. Their sides are shares of
    the image's, so an anchor of ratio 1 is a square only in a square image. A level has the scale s
    and, for one more square, the geometric mean of s and the next level's.
    """

    def __init__(self, options: SSDAnchorOptions):
        self.strides = options.output_strides
        self.clip = not options.no_clipping
        self.shapes = _shapes(options)
        self._made: dict[tuple[Sizes, torch.dtype, torch.device], Tensor] = {}

    @property
    def per_location(self) -> tuple[int, ...]:
        """Anchors of a cell, by level."""
        return tuple(len(shapes) for shapes in self.shapes)

    def __call__(
        self, sizes: Sequence[tuple[int, int]], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Anchors [N, 4], centre form (cx, cy, w, h) in shares of the image.

        `sizes`: (height, width) of each level's map. Levels follow each other, in each the cells row
        by row, in each cell its anchors. The same tensor is given again for the same sizes.
        """
        key = (tuple((height, width) for height, width in sizes), dtype, torch.device(device))
        if key not in self._made:
            anchors = self._make(*key)
            if type(anchors) is not Tensor:  # an export only pretends to compute
                return anchors
            if len(self._made) == _CACHED_SIZES:
                del self._made[next(iter(self._made))]
            self._made[key] = anchors
        return self._made[key]

    def _make(self, sizes: Sizes, dtype: torch.dtype, device: torch.device) -> Tensor:
        # A tensor made in inference mode could not serve a training later.
        with torch.inference_mode(False):
            levels = zip(sizes, self.shapes, strict=True)
            anchors = torch.cat([_grid(size, shapes) for size, shapes in levels])
            return (anchors.clamp(0.0, 1.0) if self.clip else anchors).to(device, dtype)


def _shapes(options: SSDAnchorOptions) -> tuple[tuple[tuple[float, float], ...], ...]:
    """(width, height) of the anchors of a cell, by level."""
    levels = len(options.output_strides)
    first, last = options.min_scale_ratio, options.max_scale_ratio
    scales = [first + (last - first) * index / levels for index in range(levels + 1)]
    shapes = []
    for ratios, scale, following in zip(options.aspect_ratios, scales, scales[1:], strict=False):
        between = (scale * following) ** 0.5
        level = [(scale, scale), (between, between)]
        for ratio in sorted(set(ratios)):
            long, short = scale * ratio**0.5, scale / ratio**0.5
            level += [(long, short), (short, long)]
        shapes.append(tuple(level))
    return tuple(shapes)


def _grid(size: tuple[int, int], shapes: Sequence[tuple[float, float]]) -> Tensor:
    """The anchors of one level, float64 [height * width * shapes, 4], on the CPU in any context."""
    down, across = (
        (torch.arange(side, dtype=torch.float64, device="cpu") + 0.5) / side for side in size
    )
    cy, cx = torch.meshgrid(down, across, indexing="ij")
    centers = torch.stack((cx, cy), dim=-1).reshape(-1, 1, 2).expand(-1, len(shapes), -1)
    sides = torch.tensor(shapes, dtype=torch.float64, device="cpu").expand_as(centers)
    return torch.cat((centers, sides), dim=-1).reshape(-1, 4)
