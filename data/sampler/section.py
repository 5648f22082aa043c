"""The options that all samplers share, and what a sampler is."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from config.options import Options, Section
from data.sampler.plan import Size


class LinkSection(Section):
    """`sampler.chain_sampler[n].sampler_config`: one sampler of a chain."""

    name: str = Field("batch_sampler", description="which sampler")


class LinkOptions(Options):
    """`sampler.chain_sampler[n]`: one sampler of a chain, and its batch."""

    task_name: str = Field("", description="the task of the recipe; official chains may mix tasks")
    train_batch_size0: int | None = Field(
        None, ge=1, description="images per micro-batch; null: dataset.train_batch_size0"
    )
    val_batch_size0: int | None = Field(None, ge=1, description="official; see dataset")
    sampler_config: LinkSection = Field(default_factory=LinkSection, description="the sampler")


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
    class_balanced: bool = Field(
        False, description="an epoch of the same length draws each class equally often"
    )
    use_shards: bool = Field(False, description="official: a part of the data for each machine")
    disable_shuffle_sharding: bool = Field(
        False, description="official: do not shuffle such a part"
    )
    chain_sampler: tuple[LinkOptions, ...] = Field(
        (), description="the samplers of a chain, a list; each covers the data set in every epoch"
    )
    chain_sampler_mode: Literal["sequential", "interleave"] = Field(
        "sequential", description="one sampler of a chain after the other, or their steps in turn"
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
