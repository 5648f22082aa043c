"""One image size, one batch size."""

from __future__ import annotations

from pydantic import Field

from config.options import Options
from data.kinds import SAMPLERS
from data.sampler.plan import Size


class BatchSamplerOptions(Options):
    """`sampler.bs`."""

    crop_size_width: int = Field(256, ge=8, description="image width, pixels")
    crop_size_height: int = Field(256, ge=8, description="image height, pixels")


@SAMPLERS.register("batch_sampler", key="bs", options=BatchSamplerOptions)
class BatchSampler:
    """Every step has the same image size and batch."""

    def __init__(self, options: BatchSamplerOptions, *, batch_size: int):
        self.base = Size(options.crop_size_height, options.crop_size_width, batch_size)

    def sizes(self, epoch: int) -> list[Size]:
        return [self.base]

    def notes(self) -> list[str]:
        return []
