"""Transforms in an order that is drawn anew for every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field

from config.errors import UserError
from data.kinds import TRANSFORMS, TransformOptions

Named = tuple[str, Callable[..., Any]]


class RandomOrderOptions(TransformOptions):
    """Which of the transforms between the first resize and the network are applied, and when."""

    apply_k: float = Field(
        1.0, ge=0, le=1, description="share of them that is applied; segmentation always crops"
    )


@TRANSFORMS.register("random_order", options=RandomOrderOptions)
def random_order(options: RandomOrderOptions, *, size: tuple[int, int]) -> None:
    """Other transforms in random order; classification and segmentation do this themselves."""
    raise UserError("image_augmentation.random_order: it is not for detection; switch it off")


def in_random_order(steps: Sequence[Named], share: float) -> list[Named]:
    """A share of the steps, rounded to a whole number, all orders and choices alike."""
    drawn = [steps[place] for place in torch.randperm(len(steps)).tolist()]
    return drawn[: round(share * len(steps))]
