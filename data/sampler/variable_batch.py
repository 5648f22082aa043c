"""The variable-batch sampler: larger images in smaller batches (MobileViT, ICLR 2022, section 3.2)."""

from __future__ import annotations

from pydantic import Field

from data.kinds import SAMPLERS
from data.sampler.multi_scale import MultiScaleOptions, size_list
from data.sampler.plan import Size


class VariableBatchOptions(MultiScaleOptions):
    """`sampler.vbs`: the range of sizes in pixels, and how it grows over epochs."""

    ep_intervals: tuple[int, ...] = Field((40,), description="epochs at which the range grows")
    min_scale_inc_factor: float = Field(1.0, gt=0, description="factor on the smallest sides")
    max_scale_inc_factor: float = Field(1.0, gt=0, description="factor on the largest sides")
    at_least_base_batch: bool = Field(
        False,
        description="images larger than the base size keep its batch (the rule of release 0.1, which "
        "needs more memory)",
    )


@SAMPLERS.register("variable_batch_sampler", key="vbs", options=VariableBatchOptions)
class VariableBatchSampler:
    """Several image sizes; the batch keeps the pixels per step about constant."""

    def __init__(self, options: VariableBatchOptions, *, batch_size: int):
        self.base = Size(options.crop_size_height, options.crop_size_width, batch_size)
        self._options = options
        for epoch in (0, *options.ep_intervals):
            self._sides(epoch)  # a range that cannot be paired is an error now, not in that epoch

    def sizes(self, epoch: int) -> list[Size]:
        """Batch b of (h, w) keeps b * h * w near the base; at least 2, for batch norm."""
        return [Size(h, w, max(2, self._batch(h, w))) for h, w in self._sides(epoch)]

    def notes(self) -> list[str]:
        return [
            f"the area rule gives a batch of {self._batch(h, w)} at {h}x{w}; 2 is used, "
            "because batch norm needs two images"
            for h, w in self._sides(0)
            if self._batch(h, w) < 2
        ]

    def _batch(self, height: int, width: int) -> int:
        base = self.base
        batch = int(round(base.height * base.width * base.batch / (height * width), 2))
        return max(batch, base.batch) if self._options.at_least_base_batch else batch

    def _sides(self, epoch: int) -> list[tuple[int, int]]:
        options = self._options
        grown = sum(epoch >= start for start in options.ep_intervals) if options.scale_inc else 0
        factors = (options.min_scale_inc_factor**grown, options.max_scale_inc_factor**grown)
        return size_list(options, grow=factors)
