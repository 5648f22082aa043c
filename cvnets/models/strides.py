"""How the stages of a network shrink the image, and what dilation makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from config.errors import UserError

OUTPUT_STRIDES = (8, 16, 32)


class StageShape(NamedTuple):
    """Geometry of one stage: `dilation` holds behind its first block, `entry_dilation` in it."""

    stride: int
    entry_dilation: int
    dilation: int
    total_stride: int


def plan_strides(strides: Sequence[int], output_stride: int | None) -> list[StageShape]:
    """Turn the strides beyond `output_stride` into dilation.

    `strides`: of stem and stages in order. A stage that keeps its resolution has stride 1; its
    first block still works with the dilation from before, the rest with its stride times that.
    """
    if output_stride not in (None, *OUTPUT_STRIDES):
        allowed = ", ".join(map(str, OUTPUT_STRIDES))
        raise UserError(
            f"output_stride: {output_stride} is not possible; allowed: {allowed} or null"
        )
    plan = []
    total, dilation = 1, 1
    for stride in strides:
        entry = dilation
        dilated = output_stride is not None and total * stride > output_stride
        if dilated:
            dilation *= stride
        else:
            total *= stride
        plan.append(StageShape(1 if dilated else stride, entry, dilation, total))
    return plan
