"""The random crop of SSD, chosen by how much it shows of the objects."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional

from config.errors import UserError
from data.kinds import TRANSFORMS
from data.transforms.options import DetectionTransformOptions

LEAST_SHARE = 0.3  # of the image's width, and of its height, that a crop has
# With no limit, a list of thresholds without 0 might never come to an end; with the usual seven,
# one image in two thousand of those without any good crop is left unchanged a little early.
THRESHOLD_DRAWS = 50


class SSDCropOptions(DetectionTransformOptions):
    """A random part of the image in which the centre of at least one object lies."""

    iou_thresholds: tuple[float, ...] = Field(
        (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        min_length=1,
        description="one is drawn: least IoU of the crop with the object that it fits best; 0: no "
        "crop",
    )
    n_trials: int = Field(40, ge=1, description="crops tried before another threshold is drawn")
    min_aspect_ratio: float = Field(0.5, gt=0, description="least height over width of a crop")
    max_aspect_ratio: float = Field(2.0, gt=0, description="largest height over width of a crop")
    min_crop_side: int = Field(
        100,
        ge=1,
        description="least side of a crop, pixels of the original image; lower it for "
        "images not much larger",
    )

    @model_validator(mode="after")
    def _ranges(self) -> SSDCropOptions:
        if not all(0 <= threshold <= 1 for threshold in self.iou_thresholds):
            raise ValueError(f"iou_thresholds: {list(self.iou_thresholds)} are not all in [0, 1]")
        if self.min_aspect_ratio > self.max_aspect_ratio:
            raise ValueError(
                f"min_aspect_ratio: {self.min_aspect_ratio:g} is above max_aspect_ratio = "
                f"{self.max_aspect_ratio:g}"
            )
        return self


@TRANSFORMS.register("ssd_crop", options=SSDCropOptions)
class SSDCropping:
    """A random part of image and boxes (Liu et al., SSD, ECCV 2016, section 2.2).

    Objects whose centre lies in the crop stay, clipped to it; the boxes of the others become
    empty, so that boxes and labels stay in step. An image without objects is left as it is.
    """

    def __init__(self, options: SSDCropOptions, *, size: tuple[int, int]):
        self.options = options

    def __call__(
        self, image: Tensor, boxes: tv_tensors.BoundingBoxes | None = None
    ) -> tuple[Tensor, tv_tensors.BoundingBoxes]:
        if boxes is None:
            raise UserError(
                "image_augmentation.ssd_crop: it chooses a crop by the objects in it, so it is for "
                "detection only; switch it off"
            )
        crop = self._drawn(boxes) if len(boxes) else None
        if crop is None:
            return image, boxes
        left, top, right, bottom = crop
        inside = _centred(boxes, torch.tensor([crop]))[0]
        window = (top, left, bottom - top, right - left)
        image, boxes = functional.crop(image, *window), functional.crop(boxes, *window)
        return image, tv_tensors.wrap(boxes * inside[:, None], like=boxes)

    def _drawn(self, boxes: tv_tensors.BoundingBoxes) -> list[int] | None:
        """The crop (x1, y1, x2, y2) in pixels, None for the whole image."""
        thresholds = self.options.iou_thresholds
        for _ in range(THRESHOLD_DRAWS):
            least = thresholds[int(torch.randint(len(thresholds), ()))]
            if least == 0:
                return None
            crops = self._candidates(*boxes.canvas_size)
            good = (box_iou(crops.to(boxes.dtype), boxes) >= least).any(1)
            good &= _centred(boxes, crops).any(1)
            if good.any():
                first: list[int] = crops[good][0].tolist()
                return first
        return None

    def _candidates(self, height: int, width: int) -> Tensor:
        """The crops of one threshold that have a fitting shape, int64 [n, 4] corner form, pixels.

        All trials are drawn at once and the first good one is taken, which is the same as one
        after the other.
        """
        options = self.options
        draws = torch.rand(options.n_trials, 4)
        shares = LEAST_SHARE + (1 - LEAST_SHARE) * draws[:, :2]
        w, h = (shares * draws.new_tensor([width, height])).long().T
        # every place has the same chance, the last one too
        left = (draws[:, 2] * (width - w + 1)).long()
        top = (draws[:, 3] * (height - h + 1)).long()
        fitting = (h >= options.min_aspect_ratio * w) & (h <= options.max_aspect_ratio * w)
        fitting &= torch.minimum(w, h) >= options.min_crop_side
        return torch.stack([left, top, left + w, top + h], 1)[fitting]


def _centred(boxes: Tensor, crops: Tensor) -> Tensor:
    """Whether the centre of box j lies inside of crop i, not on its edge: bool [i, j]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])).all(2)
