"""A backbone and a head: semantic segmentation."""

from __future__ import annotations

from torch import Tensor

from config.registry import NoOptions
from cvnets.kinds import SEGMENTORS
from cvnets.models.dense import SegmentationOutput, Segmentor
from cvnets.models.encoder import ImageEncoder
from cvnets.models.segmentation.heads import SegmentationHead


@SEGMENTORS.register("encoder_decoder")
class EncoderDecoder(Segmentor):
    """Runs the head on maps of the backbone; its logits are enlarged once, to the images' size."""

    dispensable = ("seg_head.aux_head",)

    def __init__(self, options: NoOptions, *, encoder: ImageEncoder, seg_head: SegmentationHead):
        super().__init__()
        self.encoder = encoder.as_backbone(seg_head.levels)
        self.seg_head = seg_head
        self.head = ("seg_head.classifier", "seg_head.aux_head.2")

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Images [B, 3, H, W], float RGB in [0, 1], of any size -> logits of the classes."""
        low_res, aux = self.seg_head(self.encoder.features(images, self.seg_head.levels))
        return SegmentationOutput(low_res, aux, (images.shape[2], images.shape[3]))
