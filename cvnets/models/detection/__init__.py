"""Networks that find objects; importing this registers them and what they are built with."""

from cvnets.boxes.matcher import SSDMatcher, SSDMatcherOptions
from cvnets.models.detection.anchors import SSDAnchorOptions, SSDAnchors
from cvnets.models.detection.ssd import SSD, SSDOptions

__all__ = [
    "SSD",
    "SSDAnchorOptions",
    "SSDAnchors",
    "SSDMatcher",
    "SSDMatcherOptions",
    "SSDOptions",
]
