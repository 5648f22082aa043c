"""Image and mask together: resized and cut so that each pixel keeps its label."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from config.errors import UserError


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Labels uint8 [H, W] -> [height, width]: each pixel takes the label at its centre."""
    # not NEAREST, which takes the upper left corner: masks would move by half a pixel
    mode = InterpolationMode.NEAREST_EXACT
    resized: Tensor = functional.resize(mask[None], [height, width], mode)
    return resized[0]


def resize_both(
    image: Tensor, mask: Tensor, size: tuple[int, int], mode: InterpolationMode
) -> tuple[Tensor, Tensor]:
    """uint8 [3, H, W] and [H, W] -> [3, h, w], antialiased, and [h, w] for a size of (h, w)."""
    if mask.shape == size:
        return image, mask
    return functional.resize(image, list(size), mode, antialias=True), resize_mask(mask, *size)


def needs_mask(name: str) -> UserError:
    """What to raise where a transform of segmentation gets no mask."""
    return UserError(
        f"image_augmentation.{name}: it changes image and mask together, so it is for segmentation "
        "only; switch it off"
    )
