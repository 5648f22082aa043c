"""A loss."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from config.options import Options
from loss_fn.kinds import CLASSIFICATION_LOSSES
from loss_fn.output import LossOutput


class TinyFocalOptions(Options):
    """`loss.classification.tiny_focal`."""

    gamma: float = Field(2.0, ge=0, description="how much images that are right already count less")


@CLASSIFICATION_LOSSES.register("tiny_focal", options=TinyFocalOptions)
class TinyFocal(nn.Module):
    """The focal loss (Lin et al., "Focal loss for dense object detection", ICCV 2017, eq. 4)."""

    def __init__(self, options: TinyFocalOptions):
        super().__init__()
        self.gamma = options.gamma

    def forward(self, images: Tensor, outputs: Tensor, targets: Tensor) -> LossOutput:
        """Logits [B, C] and labels [B] -> the mean over the images, on the device."""
        entropy = functional.cross_entropy(outputs.float(), targets, reduction="none")
        return LossOutput(((1 - entropy.neg().exp()) ** self.gamma * entropy).mean())
