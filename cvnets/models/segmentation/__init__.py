"""Networks that name the class of every pixel; importing this registers them and their heads."""

from cvnets.models.segmentation.encoder_decoder import EncoderDecoder
from cvnets.models.segmentation.heads import (
    DeepLabV3,
    DeepLabV3Options,
    PSPNet,
    PSPNetOptions,
    SegmentationHead,
    SimpleHead,
)

__all__ = [
    "DeepLabV3",
    "DeepLabV3Options",
    "EncoderDecoder",
    "PSPNet",
    "PSPNetOptions",
    "SegmentationHead",
    "SimpleHead",
]
