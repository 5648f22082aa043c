"""Pipelines of segmentation: uint8 [H, W, 3] and its labels in, uint8 [3, h, w] and a target out.

Randomness comes from torch's global generator, which the loader seeds for every sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from config.errors import UserError
from data.datasets.segmentation.labels import IGNORE, Labels, Mask
from data.datasets.segmentation.segments import Segments
from data.kinds import TRANSFORMS
from data.sample import Sample, SampleKey
from data.transforms.classification import Image, as_tensor
from data.transforms.detection import evaluation_size
from data.transforms.interpolation import INTERPOLATIONS
from data.transforms.masks import resize_both, resize_mask
from data.transforms.options import wanted
from data.transforms.pipeline import Size, Steps, check_image
from data.transforms.random_order import RandomOrderOptions
from data.transforms.section import ImageAugmentationSection
from data.transforms.short_side import capped, scaled

TASK = "segmentation"
FIRST = ("random_short_size_resize", "random_resize")  # one of them
# What follows, in this order or in a random one; the user's own transforms come last.
MIDDLE = (
    "random_horizontal_flip",
    "random_crop",
    "random_gaussian_noise",
    "photo_metric_distort",
    "random_rotate",
)
OF_OTHER_TASKS = ("random_resized_crop", "ssd_crop")
KNOWN = (*FIRST, *MIDDLE, *OF_OTHER_TASKS, "random_order")
# Pixels of a long side. Without it an image of 1 x 3000 pixels would get 512 x 1,536,000 of them.
LONGEST = 16_384

_Named = tuple[str, Callable[..., Any]]


class SizeRule(NamedTuple):
    """To which size images are brought for evaluation.

    "fixed" gives all of them one size, see `evaluation_size`; "short_side" keeps the aspect ratio
    and makes the short side that of the sampler, or the long one LONGEST if it would exceed that;
    "own" keeps each image's own size, cut down to a multiple of `stride` pixels.
    """

    kind: Literal["fixed", "short_side", "own"]
    stride: int = 32


FIXED = SizeRule("fixed")


@dataclass(frozen=True)
class SegmentationTarget:
    """`mask` uint8 [h, w], the class of each pixel of the network's image, IGNORE where none counts;
    `truth` uint8 [H, W], the same of the image at its own size, in evaluation only."""

    mask: Tensor
    truth: Tensor | None = None


class SegmentationTrainingTransform:
    """A random size, then flip, crop to the size of the key, colours and the user's transforms.

    The first resize, the flip and the crop are on unless the recipe switches them off. Masks keep
    the values of their files, which the recipe's `mask_fill` are as well, until the user's
    transforms: those that are a `torchvision.transforms.v2.Transform` get the image and a
    `tv_tensors.Mask` of class indices; any other callable gets the image only and must leave
    all pixels where they are.
    """

    def __init__(self, section: ImageAugmentationSection):
        enabled = section.enabled
        _refuse_unfit(enabled)
        first = [name for name in FIRST if wanted(section, name, TASK)]
        middle = [name for name in MIDDLE if wanted(section, name, TASK)]
        self._first = Steps(section, first[-1:])  # random_resize is named to replace the other
        self._middle = Steps(section, middle)
        self._behind = Steps(section, [name for name in enabled if name not in KNOWN])
        order = TRANSFORMS.options_of(section, name="random_order")
        assert isinstance(order, RandomOrderOptions)
        self._share = order.apply_k if order.enable else None
        options = [TRANSFORMS.options_of(section, name=name) for name in middle]
        self._fills = {one.mask_fill for one in options if hasattr(one, "mask_fill")}

    def __call__(self, image: Image, segments: Segments, key: SampleKey) -> Sample:
        size = (key.height, key.width)
        raw, table = _with_255_unlabelled(segments, self._fills)
        pixels: Tensor = tv_tensors.Image(as_tensor(image))
        mask: Tensor = tv_tensors.Mask(torch.from_numpy(raw))
        for _, transform in [*self._first.of(size), *self._ordered(self._middle.of(size))]:
            pixels, mask = transform(pixels, mask)
            pixels, mask = tv_tensors.Image(pixels), tv_tensors.Mask(mask)
        # of another size only if the crop is switched off
        pixels, mask = resize_both(pixels, mask, size, v2.InterpolationMode.BILINEAR)
        pixels, mask = tv_tensors.Image(pixels), tv_tensors.Mask(table[mask.numpy()])
        for name, transform in self._behind.of(size):
            pixels, mask = _changed(name, transform, pixels, mask, segments.labels)
            check_image(name, pixels, size)
        target = SegmentationTarget(mask.as_subclass(Tensor))
        return Sample(pixels.as_subclass(Tensor), target, image.shape[:2])

    def _ordered(self, steps: list[_Named]) -> list[_Named]:
        """As they are, or a share of them in random order; the crop is never left out."""
        if self._share is None:
            return steps
        drawn = [steps[place] for place in torch.randperm(len(steps)).tolist()]
        others = [name for name, _ in drawn if name != "random_crop"]
        left_out = others[round(self._share * len(others)) :]
        return [(name, transform) for name, transform in drawn if name not in left_out]


class SegmentationEvaluationTransform:
    """A resize of the image, and of its mask for the loss; the truth keeps its own size."""

    def __init__(self, section: ImageAugmentationSection, size_rule: SizeRule = FIXED):
        if section.center_crop.enable:
            raise UserError(
                "image_augmentation.center_crop: segmentation is evaluated on whole images; switch "
                "it off"
            )
        # not the section itself: loader workers get this pickled, and its type may be a composed one
        self._section = ImageAugmentationSection(resize=section.resize)
        self._rule = size_rule

    def __call__(self, image: Image, segments: Segments, key: SampleKey) -> Sample:
        pixels = self.resized(image, key)
        truth = torch.from_numpy(segments.labels.classes(segments.raw))
        target = SegmentationTarget(resize_mask(truth, *pixels.shape[1:]), truth)
        return Sample(pixels, target, image.shape[:2])

    def resized(self, image: Image, key: SampleKey) -> Tensor:
        """What the network gets of an image: uint8 [3, h, w]."""
        mode = INTERPOLATIONS[self._section.resize.interpolation]
        height, width = image.shape[:2]
        size = list(self.size(height, width, key))
        pixels: Tensor = v2.functional.resize(as_tensor(image), size, mode, antialias=True)
        return pixels

    def size(self, height: int, width: int, key: SampleKey) -> Size:
        """(h, w) of what the network gets of an image of `height` x `width` pixels."""
        if self._rule.kind == "fixed":
            return evaluation_size(self._section, key.height, key.width)
        if self._rule.kind == "own":
            return _cut_down(height, self._rule.stride), _cut_down(width, self._rule.stride)
        scale = min(key.height, key.width) / min(height, width)
        return scaled(height, width, capped(scale, max(height, width), LONGEST))


def collate(targets: Sequence[SegmentationTarget]) -> dict[str, Any]:
    """B targets -> "mask" uint8 [B, h, w], and in evaluation "truth", a list of uint8 [H, W]."""
    truths = [target.truth for target in targets if target.truth is not None]
    masks = torch.stack([target.mask for target in targets])
    return {"mask": masks} | ({"truth": truths} if truths else {})


def _refuse_unfit(enabled: Sequence[str]) -> None:
    """UserError for transforms that exclude each other, and for those of other tasks."""
    if all(name in enabled for name in FIRST):
        raise UserError(
            "image_augmentation.random_resize: it takes the place of random_short_size_resize, "
            "which is enabled as well; switch one of them off"
        )
    for name in OF_OTHER_TASKS:
        if name in enabled:
            raise UserError(
                f"image_augmentation.{name}: segmentation has a crop of its own, random_crop; "
                "switch it off"
            )


def _with_255_unlabelled(segments: Segments, fills: set[int]) -> tuple[Mask, Mask]:
    """Raw values, and the table from them to classes, in which 255 is no class.

    If it is one, as in masks of 0 and 255, it changes places with a value that nothing else means.
    """
    labels = segments.labels
    free = set(range(256)) - {*labels.raw, *fills}
    if IGNORE not in labels.raw or not free:
        return segments.raw, labels.table
    swap = np.arange(256, dtype=np.uint8)
    swap[[IGNORE, max(free)]] = max(free), IGNORE
    return swap[segments.raw], labels.table[swap]


def _changed(
    name: str, transform: Callable[..., Any], pixels: Tensor, mask: Tensor, labels: Labels
) -> tuple[Tensor, Tensor]:
    """What a transform of the user makes of an image and its mask of class indices."""
    if not isinstance(transform, v2.Transform):
        return tv_tensors.Image(transform(pixels.as_subclass(Tensor))), mask
    pixels, changed = transform(pixels, mask)
    if (
        not isinstance(changed, Tensor)
        or changed.dtype != mask.dtype
        or changed.shape != mask.shape
    ):
        got = (
            f"{changed.dtype} {list(changed.shape)}"
            if isinstance(changed, Tensor)
            else type(changed).__name__
        )
        raise UserError(
            f"image_augmentation.{name}: the transform made {got} of the mask; it has to leave it "
            f"torch.uint8 {list(mask.shape)}"
        )
    most = int(changed[changed != IGNORE].max()) if bool((changed != IGNORE).any()) else 0
    if most >= len(labels):
        raise UserError(
            f"image_augmentation.{name}: the transform put {most} into the mask, but classes are "
            f"0..{len(labels) - 1} and {IGNORE} where no class is; fill with these"
        )
    return pixels, tv_tensors.Mask(changed)


def _cut_down(side: int, stride: int) -> int:
    return max(stride, side // stride * stride)
