"""Filters of resizing, and the way to those that only PIL has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

Interpolation = Literal["nearest", "bilinear", "bicubic", "cubic"]
PilInterpolation = Literal["nearest", "bilinear", "bicubic", "cubic", "box", "hamming", "lanczos"]

INTERPOLATIONS = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "cubic": InterpolationMode.BICUBIC,
    "box": InterpolationMode.BOX,
    "hamming": InterpolationMode.HAMMING,
    "lanczos": InterpolationMode.LANCZOS,
}
OF_PIL_ONLY = ("box", "hamming", "lanczos")


def through_pil(change: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """A change of PIL images as one of tensors, uint8 [3, H, W]."""

    def changed(image: Tensor) -> Tensor:
        picture = change(functional.to_pil_image(image))
        return functional.pil_to_tensor(picture)

    return changed
