"""Cross entropy of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from config.options import Options
from loss_fn.kinds import SEGMENTATION_LOSSES
from loss_fn.output import LossOutput

LEFT_OUT = 255  # in a mask: the data set gives this pixel no class
_IGNORED = -100  # for torch


class Outputs(Protocol):
    """What the loss asks of a network: logits [B, C, h, w], and those of an auxiliary head."""

    @property
    def low_res(self) -> Tensor: ...

    @property
    def aux(self) -> Tensor | None: ...


class SegmentationCrossEntropyOptions(Options):
    """Options of the cross entropy of segmentation."""

    ignore_index: int = Field(
        -1,
        ge=-1,
        le=255,
        description="a class whose pixels do not count, beside those that the data set leaves out "
        "(the ignored values of its masks never count); -1 and 255: no further one",
    )
    aux_weight: float = Field(
        0.4, ge=0.0, description="weight of the auxiliary head's loss, which is added in training"
    )
    class_weights: bool = Field(
        False,
        description="rare classes weigh more in training: 1 / ln(1.1 + share of the pixels)",
    )
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the target spread over all classes, in training"
    )


@SEGMENTATION_LOSSES.register("cross_entropy", options=SegmentationCrossEntropyOptions)
class SegmentationCrossEntropy(nn.Module):
    """Cross entropy, averaged over the pixels of a micro-batch that are not left out.

    Nothing leaves the device, and a micro-batch without any pixel that counts gives 0. With class
    weights the average is the weighted one. The auxiliary head (Zhao et al., CVPR 2017, section
    3.3) counts in training only.
    """

    def __init__(self, options: SegmentationCrossEntropyOptions):
        super().__init__()
        self.options = options

    def forward(self, images: Tensor, outputs: Outputs, targets: Mapping[str, Any]) -> LossOutput:
        """`targets["mask"]`: uint8 [B, H, W], classes, 255 where there is none. Logits of another
        size are enlarged to it. The parts are `seg_loss` and `aux_loss`, where there are both."""
        labels = targets["mask"].long()
        left_out = (labels == LEFT_OUT) | (labels == self.options.ignore_index)
        labels = labels.masked_fill(left_out, _IGNORED)
        weighted = self.options.class_weights and self.training
        weights = self._weights(labels, outputs.low_res) if weighted else None
        units = (~left_out).sum() if weights is None else _mass(labels, weights)
        main = self._mean(outputs.low_res, labels, weights, units)
        if outputs.aux is None or not self.training:
            return LossOutput(main, units=units)
        aux = self.options.aux_weight * self._mean(outputs.aux, labels, weights, units)
        return LossOutput(main + aux, {"seg_loss": main.detach(), "aux_loss": aux.detach()}, units)

    def _mean(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None, units: Tensor
    ) -> Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if logits.shape[2:] != labels.shape[1:]:
            size = (labels.shape[1], labels.shape[2])
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
        # pixel by pixel: CUDA's loss of whole maps is not deterministic
        total = F.cross_entropy(
            logits.permute(0, 2, 3, 1).flatten(0, 2),
            labels.flatten(),
            weights,
            ignore_index=_IGNORED,
            reduction="sum",
            label_smoothing=self.options.label_smoothing if self.training else 0.0,
        )
        return total / torch.where(units > 0, units, 1)

    def _weights(self, labels: Tensor, logits: Tensor) -> Tensor:
        """A weight for each class [C] by its share of the pixels that count; 0 if it has none."""
        classes = logits.shape[1]
        places = torch.where(labels < 0, classes, labels).flatten()
        counts = labels.new_zeros(classes + 1).scatter_add_(0, places, torch.ones_like(places))[:-1]
        weights = 1 / torch.log(1.1 + counts / counts.sum().clamp_min(1))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.where(counts > 0, weights, 0).to(dtype)


def _mass(labels: Tensor, weights: Tensor) -> Tensor:
    """Sum of the weights of all pixels that count."""
    return torch.where(labels < 0, 0, weights[labels.clamp_min(0)]).sum()
