"""The transforms that a training image goes through, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from config.errors import UserError
from data.kinds import TRANSFORMS
from data.transforms.section import ImageAugmentationSection

Size = tuple[int, int]
Transform = Callable[[Tensor], Tensor]


class Pipeline:
    """uint8 [3, H, W] -> uint8 [3, h, w]: the transforms that are enabled.

    First those of `order`, in this order, then all others (the user's own) by name. The first of
    `order` brings the image to its size, also where it is not enabled. Transforms are built once
    per size, not per image. UserError if one gives an image of another shape or type.
    """

    def __init__(self, section: ImageAugmentationSection, order: Sequence[str]):
        enabled = section.enabled
        names = [name for name in order if name == order[0] or name in enabled]
        names += [name for name in enabled if name not in order]
        self._parts = [
            (name, TRANSFORMS[name].component, TRANSFORMS.options_of(section, name=name))
            for name in names
        ]
        self._built: dict[Size, list[tuple[str, Transform]]] = {}

    def __call__(self, image: Tensor, size: Size) -> Tensor:
        if size not in self._built:
            self._built[size] = [
                (name, component(options, size=size)) for name, component, options in self._parts
            ]
        for name, transform in self._built[size]:
            image = transform(image)
            if image.dtype != torch.uint8 or image.shape != (3, *size):
                raise UserError(
                    f"image_augmentation.{name}: the transform gave {image.dtype} "
                    f"{list(image.shape)}; it has to give torch.uint8 {[3, *size]}"
                )
        return image

    def __getstate__(self) -> dict[str, Any]:
        """Without what was built, so that a transform may be a function inside a function."""
        return {**vars(self), "_built": {}}
