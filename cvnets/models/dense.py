"""Networks around a backbone."""

from __future__ import annotations

from torch import Tensor, nn

from cvnets.boxes.output import DetectionOutput, Detections
from cvnets.models.encoder import ImageEncoder


class DenseModel(nn.Module):
    """A network around the backbone `encoder`, for detection or segmentation.

    `head`: names of the parts whose size depends on the number of classes. Weights of another
    number of classes leave them as they are initialised.
    """

    encoder: ImageEncoder
    head: tuple[str, ...] = ()


class Detector(DenseModel):
    """What a detector is: a call gives `DetectionOutput`, `postprocess` what was found."""

    def postprocess(self, output: DetectionOutput) -> list[Detections]:
        """What was found in each image, the surest first; boxes may reach outside of the image."""
        raise NotImplementedError

    def detect(self, images: Tensor) -> list[Detections]:
        """Images [B, 3, H, W], float RGB in [0, 1] -> what was found in each."""
        return self.postprocess(self(images))
