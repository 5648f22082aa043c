"""Pipelines of detection: uint8 [H, W, 3] and its objects in, uint8 [3, h, w] and a target out.

Randomness comes from torch's global generator, which the loader seeds for every sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from config.errors import UserError
from data.datasets.detection.objects import Objects, Truth
from data.sample import Sample, SampleKey
from data.transforms.classification import Image, as_tensor
from data.transforms.interpolation import INTERPOLATIONS
from data.transforms.options import wanted
from data.transforms.pipeline import Steps, check_image
from data.transforms.section import ImageAugmentationSection

# What training does unless it is switched off, in this order, before the resize; the user's own
# transforms follow.
ORDER = ("ssd_crop", "photo_metric_distort", "random_horizontal_flip")
WHOLE = (*ORDER, "random_resized_crop")  # in the place of which detection has a crop of its own
SIZE_STEP = 32  # images evaluated at their own size are cut down to a multiple, pixels


@dataclass(frozen=True)
class DetectionTarget:
    """`boxes` float32 [n, 4] corner form in shares of the image, none degenerate; `labels` int64
    [n], from 1 on; `truth` the records of the data set, in evaluation only."""

    boxes: Tensor
    labels: Tensor
    truth: Truth | None = None


class DetectionTrainingTransform:
    """Crop, colours and mirror image, a resize to the size of the key, and the user's transforms.

    The crop, the colours and the mirror image are on unless the recipe switches them off. Those of
    the user that are a `torchvision.transforms.v2.Transform` get the image and a dictionary of
    `boxes` and `labels`; any other callable gets the image only and must leave all objects where
    they are.
    """

    def __init__(self, section: ImageAugmentationSection):
        self._before = Steps(
            section, [name for name in ORDER if wanted(section, name, "detection")]
        )
        self._behind = Steps(section, [name for name in section.enabled if name not in WHOLE])

    def __call__(self, image: Image, objects: Objects, key: SampleKey) -> Sample:
        size, own_size = (key.height, key.width), image.shape[:2]
        pixels: Tensor = tv_tensors.Image(as_tensor(image))
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(objects.boxes), format="XYXY", canvas_size=own_size
        )
        for _, transform in self._before.of(size):
            pixels, boxes = transform(pixels, boxes)
        pixels = v2.functional.resize(pixels, list(size), antialias=True)
        boxes = v2.functional.resize(boxes, list(size))
        labels = torch.from_numpy(objects.labels)
        for name, transform in self._behind.of(size):
            pixels, boxes, labels = _changed(name, transform, pixels, boxes, labels)
            check_image(name, pixels, size)
        target = _target(boxes, boxes.canvas_size, labels)
        return Sample(pixels.as_subclass(Tensor), target, own_size)


class DetectionEvaluationTransform:
    """A resize that keeps no aspect ratio: all images get one size, see `evaluation_size`.

    `own_size`: every image keeps its own instead, cut down to a multiple of 32 pixels.
    """

    def __init__(self, section: ImageAugmentationSection, own_size: bool = False):
        if section.center_crop.enable:
            raise UserError(
                "image_augmentation.center_crop: a detector is evaluated on whole images; switch it "
                "off"
            )
        # not the section itself: loader workers get this pickled, and its type may be a composed one
        self._section = ImageAugmentationSection(resize=section.resize)
        self._own_size = own_size

    def __call__(self, image: Image, objects: Objects, key: SampleKey) -> Sample:
        height, width = image.shape[:2]
        size = evaluation_size(self._section, key.height, key.width)
        if self._own_size:
            size = (_cut_down(height), _cut_down(width))
        mode = INTERPOLATIONS[self._section.resize.interpolation]
        pixels = v2.functional.resize(as_tensor(image), list(size), mode, antialias=True)
        boxes, labels = torch.from_numpy(objects.boxes), torch.from_numpy(objects.labels)
        return Sample(
            pixels, _target(boxes, (height, width), labels, objects.truth), (height, width)
        )


def evaluation_size(section: ImageAugmentationSection, height: int, width: int) -> tuple[int, int]:
    """(height, width) of all images of evaluation, pixels: `resize.size`, one number for a square.

    `height`, `width`: the base size of the sampler, which counts where the resize is not enabled.
    """
    if not section.resize.enable:
        return height, width
    size = section.resize.size
    return (size, size) if isinstance(size, int) else size


def collate(targets: Sequence[DetectionTarget]) -> dict[str, Any]:
    """B targets -> "boxes" float32 [B, M, 4] and "labels" int64 [B, M], filled up with 0, and in
    evaluation "truth", a list. M is the most objects of an image, at least 1."""
    most = max([1, *(len(target.labels) for target in targets)])
    boxes = torch.zeros(len(targets), most, 4)
    labels = torch.zeros(len(targets), most, dtype=torch.int64)
    for place, target in enumerate(targets):
        boxes[place, : len(target.boxes)] = target.boxes
        labels[place, : len(target.labels)] = target.labels
    truths = [target.truth for target in targets if target.truth is not None]
    return {"boxes": boxes, "labels": labels} | ({"truth": truths} if truths else {})


def _target(
    boxes: Tensor, size: tuple[int, int], labels: Tensor, truth: Truth | None = None
) -> DetectionTarget:
    """From pixels of an image of (height, width) to shares; boxes without any area are dropped."""
    height, width = size
    shares = boxes.as_subclass(Tensor) / torch.tensor([width, height, width, height])
    shares = shares.clamp(0, 1)
    kept = (shares[:, 2:] > shares[:, :2]).all(1)
    return DetectionTarget(shares[kept], labels[kept], truth)


def _changed(
    name: str,
    transform: Callable[..., Any],
    pixels: Tensor,
    boxes: tv_tensors.BoundingBoxes,
    labels: Tensor,
) -> tuple[Tensor, tv_tensors.BoundingBoxes, Tensor]:
    """What a transform of the user makes of an image, boxes and labels."""
    if not isinstance(transform, v2.Transform):
        return tv_tensors.Image(transform(pixels.as_subclass(Tensor))), boxes, labels
    try:
        pixels, objects = transform(pixels, {"boxes": boxes, "labels": labels})
    except TypeError as error:
        if tv_tensors.BoundingBoxes.__name__ not in str(error):
            raise
        # torchvision's policies of augmentation take none
        raise UserError(f"image_augmentation.{name}: not for detection: {error}") from error
    boxes, labels = objects["boxes"], objects["labels"]
    if not isinstance(boxes, tv_tensors.BoundingBoxes):
        raise UserError(
            f"image_augmentation.{name}: the transform made {type(boxes).__name__} of the boxes; it "
            "has to leave them BoundingBoxes (v2.Lambda: name the type tv_tensors.Image)"
        )
    if len(boxes) != len(labels):
        raise UserError(
            f"image_augmentation.{name}: the transform left {len(boxes)} boxes and {len(labels)} "
            "labels; it has to drop both (v2.SanitizeBoundingBoxes: leave labels_getter as it is)"
        )
    return pixels, boxes, labels


def _cut_down(side: int) -> int:
    return max(SIZE_STEP, side // SIZE_STEP * SIZE_STEP)
