"""The transforms that a training image goes through, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from config.errors import UserError
from data.kinds import TRANSFORMS
from data.transforms.random_order import Named, RandomOrderOptions, in_random_order
from data.transforms.section import ImageAugmentationSection

Size = tuple[int, int]


class Steps:
    """Transforms by name, with their options; built once per size, not per image."""

    def __init__(self, section: ImageAugmentationSection, names: Sequence[str]):
        self._parts = [
            (name, TRANSFORMS[name].component, TRANSFORMS.options_of(section, name=name))
            for name in names
        ]
        self._built: dict[Size, list[Named]] = {}

    def of(self, size: Size) -> list[Named]:
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
    `order` brings the image to its size, also where it is not enabled. With `random_order`, those
    behind it that are in `movable` change places. UserError if a transform gives an image of
    another shape or type.
    """

    def __init__(
        self, section: ImageAugmentationSection, order: Sequence[str], movable: Sequence[str]
    ):
        enabled = [name for name in section.enabled if name != "random_order"]
        names = [name for name in order if name == order[0] or name in enabled]
        self._steps = Steps(section, names + [name for name in enabled if name not in order])
        self._movable = movable
        options = TRANSFORMS.options_of(section, name="random_order")
        assert isinstance(options, RandomOrderOptions)
        self._share = options.apply_k if options.enable else None

    def __call__(self, image: Tensor, size: Size) -> Tensor:
        for name, transform in self._ordered(self._steps.of(size)):
            image = transform(image)
            check_image(name, image, size)
        return image

    def _ordered(self, steps: list[Named]) -> list[Named]:
        if self._share is None:
            return steps
        movable = [step for step in steps if step[0] in self._movable]
        behind = [step for step in steps[1:] if step[0] not in self._movable]
        return [steps[0], *in_random_order(movable, self._share), *behind]


class ImageOnly(v2.Transform):  # type: ignore[misc]
    """A transform of images without boxes or masks: these it would leave where they are not.

    `name` is its key below `image_augmentation`, `change` takes uint8 [3, H, W] to a new one.
    """

    def __init__(self, name: str, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.name, self.change = name, change

    def forward(self, *inputs: Any) -> Tensor:
        """The changed image. UserError if there is anything besides."""
        if len(inputs) != 1:
            raise UserError(
                f"image_augmentation.{self.name}: it changes the image without its boxes or mask, "
                "so it is for classification only; switch it off"
            )
        return self.change(inputs[0])


def check_image(name: str, image: Tensor, size: Size) -> None:
    """UserError unless the transform called `name` gave uint8 [3, *size]."""
    if image.dtype != torch.uint8 or image.shape != (3, *size):
        raise UserError(
            f"image_augmentation.{name}: the transform gave {image.dtype} "
            f"{list(image.shape)}; it has to give torch.uint8 {[3, *size]}"
        )
