"""The labels of one image's pixels, as a data set gives them."""

from __future__ import annotations

from dataclasses import dataclass

from data.datasets.segmentation.labels import Labels, Mask


@dataclass(frozen=True)
class Segments:
    """`raw` uint8 [H, W], the values of the mask file; `labels` says what they mean."""

    raw: Mask
    labels: Labels
