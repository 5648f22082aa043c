"""Mixup and cutmix: pairs of images of a batch, mixed on the device, and their labels with them."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torchvision.transforms import v2

from config.options import Options


class MixingOptions(Options):
    """What both have. The last three are official; nothing here needs them."""

    enable: bool = Field(False, description="mix images in the training of a classifier")
    p: float = Field(1.0, ge=0, le=1, description="probability that a micro-batch is mixed")
    inplace: bool = Field(False, description="no effect: the mixed images are new ones")
    sample_key: str | None = Field(None, description="no effect: a batch has one tensor of images")
    target_key: str | None = Field(None, description="no effect: a batch has one tensor of labels")


class MixupOptions(MixingOptions):
    """The sum of two images (Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018)."""

    alpha: float = Field(0.2, gt=0, description="the share of one is drawn from Beta(alpha, alpha)")


class CutmixOptions(MixingOptions):
    """A part of one image within another (Yun et al., CutMix, ICCV 2019)."""

    alpha: float = Field(1.0, gt=0, description="the share of one is drawn from Beta(alpha, alpha)")


class Mixing:
    """Those that are enabled: one of them is drawn per micro-batch, then applied with its `p`.

    The other image of each pair is the one before it in the micro-batch. All draws come from
    torch's generator of the CPU, so that nothing waits for the device.
    """

    def __init__(self, mixup: MixupOptions, cutmix: CutmixOptions):
        self._enabled = [
            (options.p, transform(alpha=options.alpha))
            for options, transform in ((mixup, v2.MixUp), (cutmix, v2.CutMix))
            if options.enable
        ]

    def __call__(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Float images [B, 3, H, W] and int64 labels [B] -> new images, shares [B, classes].

        Shares of the classes are in [0, 1], of the images' type; they add up to 1, less the share
        of images whose label is negative, which have no class. Where nothing is mixed, images and
        labels are returned as they are.
        """
        if not self._enabled:
            return images, labels
        p, mix = self._enabled[int(torch.randint(len(self._enabled), ()))]
        if float(torch.rand(())) >= p:
            return images, labels
        # not one_hot, which has no row for a negative label
        shares = labels[:, None] == torch.arange(classes, device=labels.device)
        return mix(images, shares.to(images.dtype))
