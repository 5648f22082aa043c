"""Between a map of pixels and the token sequences of the MobileViT blocks.

Pixels at the same place in their patches form one sequence: a map with 2x2 patches gives four
sequences per image. Both functions are two transpositions of at most five dimensions on
channels-last pixels, where whole rows of channels move at once.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resize_to_patches(maps: Tensor, patch: int, *, align_corners: bool = False) -> Tensor:
    """Map [B, C, H, W], enlarged bilinearly where H or W is no multiple of `patch`."""
    height, width = (-(-size // patch) * patch for size in maps.shape[2:])
    return resize(maps, (height, width), align_corners=align_corners)


def resize(maps: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Map [B, C, H, W] at (height, width) `size`; itself if it has that size."""
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=align_corners)


def unfold(maps: Tensor, patch: int) -> Tensor:
    """Map [B, C, H, W] -> tokens [B * patch * patch, N, C].

    H and W are multiples of `patch`; places in the patch and patches (N of them) both run row
    by row.
    """
    batch, channels, height, width = maps.shape
    rows, columns = height // patch, width // patch
    pixels = maps.permute(0, 2, 3, 1)
    pixels = pixels.reshape(batch, rows, patch, columns, patch * channels).transpose(1, 2)
    pixels = pixels.reshape(batch * patch, rows * columns, patch, channels).transpose(1, 2)
    return pixels.reshape(batch * patch * patch, rows * columns, channels)


def fold(tokens: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """Tokens [B * patch * patch, N, C] -> map [B, C, H, W] of (H, W) `size`; undoes `unfold`."""
    height, width = size
    channels = tokens.shape[2]
    batch = tokens.shape[0] // (patch * patch)
    pixels = tokens.reshape(batch * patch, patch, -1, channels).transpose(1, 2)
    pixels = pixels.reshape(batch, patch, height // patch, width * channels).transpose(1, 2)
    return pixels.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
