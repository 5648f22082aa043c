"""The options that all samplers share, and what a sampler is."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from config.options import Section
from data.sampler.plan import Size


class SamplerSection(Section):
    """`sampler`: image sizes and batches of a training epoch."""

    name: str = Field("batch_sampler", description="which sampler draws image sizes and batches")
    num_repeats: int = Field(1, ge=1, description="how often each sample comes per epoch, in a row")
    truncated_repeat_aug_sampler: bool = Field(
        False, description="cut the repeated list back to the size of the data set"
    )
    tail: Literal["merge", "drop", "pad"] = Field(
        "merge",
        description="the last micro-batch: merge (fewer than two samples join their neighbour), "
        "drop (an incomplete one is left out), pad (filled up from the start, official)",
    )


class Sampler(Protocol):
    """Which image sizes an epoch draws from; `base` is the size (pixels) of evaluation."""

    base: Size

    def sizes(self, epoch: int) -> list[Size]:
        """The sizes that steps of `epoch` draw from, with equal probability."""
        ...

    def notes(self) -> list[str]:
        """What the user should know of the sizes before training starts."""
        ...
