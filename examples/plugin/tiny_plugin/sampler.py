"""A sampler: which image sizes the steps of an epoch draw from."""

from __future__ import annotations

from pydantic import Field, model_validator

from config.options import Options
from data.kinds import SAMPLERS
from data.sampler.plan import Size


class TinyGrowingOptions(Options):
    """`sampler.tiny_growing`."""

    smallest: int = Field(128, ge=8, description="side of the images in the first epoch, pixels")
    largest: int = Field(256, ge=8, description="side at the end and in evaluation, pixels")
    epochs: int = Field(10, ge=1, description="epochs until the largest side is reached")

    @model_validator(mode="after")
    def _ordered(self) -> TinyGrowingOptions:
        if self.smallest > self.largest:
            raise ValueError(
                f"smallest: {self.smallest} is above largest = {self.largest}; lower it"
            )
        return self


@SAMPLERS.register("tiny_growing", options=TinyGrowingOptions)
class TinyGrowing:
    """Images that grow from epoch to epoch, in batches that shrink with their area."""

    def __init__(self, options: TinyGrowingOptions, *, batch_size: int):
        self.options = options
        self.base = Size(options.largest, options.largest, batch_size)

    def sizes(self, epoch: int) -> list[Size]:
        """One size per epoch; a function of the epoch and nothing else."""
        options = self.options
        share = min(1.0, epoch / options.epochs)
        side = round(options.smallest + share * (options.largest - options.smallest))
        batch = round(self.base.batch * (options.largest / side) ** 2)
        return [Size(side, side, batch)]

    def notes(self) -> list[str]:
        """Lines to print when training starts."""
        options = self.options
        return [f"images grow from {options.smallest} to {options.largest} pixels"]
