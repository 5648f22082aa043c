"""Networks around a backbone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvnets.boxes.output import DetectionOutput, Detections
from cvnets.models.encoder import ImageEncoder


class DenseModel(nn.Module):
    """A network around the backbone `encoder`, for detection or segmentation.

    `head`: names of the parts whose size depends on the number of classes. Weights of another
    number of classes leave them as they are initialised. `dispensable`: parts that weights may hold
    and the network may go without, because they are for training only.
    """

    encoder: ImageEncoder
    head: tuple[str, ...] = ()
    dispensable: tuple[str, ...] = ()


class Detector(DenseModel):
    """What a detector is: a call gives `DetectionOutput`, `postprocess` what was found."""

    def postprocess(self, output: DetectionOutput) -> list[Detections]:
        """What was found in each image, the surest first; boxes may reach outside of the image."""
        raise NotImplementedError

    def detect(self, images: Tensor) -> list[Detections]:
        """Images [B, 3, H, W], float RGB in [0, 1] -> what was found in each."""
        return self.postprocess(self(images))


class SegmentationOutput(NamedTuple):
    """Logits of the classes: `low_res` [B, C, h, w] as the head gives them, and in training `aux`
    [B, C, h', w'] of the auxiliary head, if there is one. `size`: (H, W) of the images."""

    low_res: Tensor
    aux: Tensor | None
    size: tuple[int, int]

    @property
    def logits(self) -> Tensor:
        """Logits [B, C, H, W] at the size of the images."""
        return enlarged(self.low_res, self.size)


def enlarged(low_res: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [B, C, h, w] -> [B, C, H, W] of `size`, bilinear, corners on corners.

    At least in float32: what is added up here decides between classes.
    """
    precise = low_res.to(torch.promote_types(low_res.dtype, torch.float32))
    return F.interpolate(precise, size, mode="bilinear", align_corners=True)


class Segmentor(DenseModel):
    """What a network of semantic segmentation is: a call gives `SegmentationOutput`."""
