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


class Steps:
    """Transforms by name, with their options; built once per size, not per image."""

    def __init__(self, section: ImageAugmentationSection, names: Sequence[str]):
        self._parts = [
            (name, TRANSFORMS[name].component, TRANSFORMS.options_of(section, name=name))
            for name in names
        ]
        self._built: dict[Size, list[tuple[str, Callable[..., Any]]]] = {}

    def of(self, size: Size) -> list[tuple[str, Callable[..., Any]]]:
        """Names and transforms for images that training needs in this size."""
        if size not in self._built:
            self._built[size] = [
                (name, component(options, size=size)) for name, component, options in self._parts
            ]
        return self._built[size]

    def __getstate__(self) -> dict[str, Any]:
        """Without what was built, so that a transform may be a function inside a function."""
        return {**vars(self), "_built": {}}


class Pipeline:
    """uint8 [3, H, W] -> uint8 [3, h, w]: the transforms that are enabled.

    First those of `order`, in this order, then all others (the user's own) by name. The first of
    `order` brings the image to its size, also where it is not enabled. UserError if a transform
    gives an image of another shape or type.
    """

    def __init__(self, section: ImageAugmentationSection, order: Sequence[str]):
        enabled = section.enabled
        names = [name for name in order if name == order[0] or name in enabled]
        self._steps = Steps(section, names + [name for name in enabled if name not in order])

    def __call__(self, image: Tensor, size: Size) -> Tensor:
        for name, transform in self._steps.of(size):
            image = transform(image)
            check_image(name, image, size)
        return image


def check_image(name: str, image: Tensor, size: Size) -> None:
    """UserError unless the transform called `name` gave uint8 [3, *size]."""
    if image.dtype != torch.uint8 or image.shape != (3, *size):
        raise UserError(
            f"image_augmentation.{name}: the transform gave {image.dtype} "
            f"{list(image.shape)}; it has to give torch.uint8 {[3, *size]}"
        )
