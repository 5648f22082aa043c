"""The order of the transforms of segmentation, drawn anew for every image."""

from __future__ import annotations

from pydantic import Field

from config.errors import UserError
from data.kinds import TRANSFORMS, TransformOptions


class RandomOrderOptions(TransformOptions):
    """Which of the transforms between the first resize and the network are applied, and when."""

    apply_k: float = Field(
        1.0, ge=0, le=1, description="share of them that is applied; the crop always is"
    )


@TRANSFORMS.register("random_order", options=RandomOrderOptions)
def random_order(options: RandomOrderOptions, *, size: tuple[int, int]) -> None:
    """Other transforms in random order; the pipeline of segmentation does this itself."""
    raise UserError("image_augmentation.random_order: it is for segmentation only; switch it off")
