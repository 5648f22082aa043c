"""Filters of resizing."""

from __future__ import annotations

from typing import Literal

from torchvision.transforms.v2 import InterpolationMode

Interpolation = Literal["nearest", "bilinear", "bicubic", "cubic"]

INTERPOLATIONS = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "cubic": InterpolationMode.BICUBIC,
}
