"""Channel counts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Width = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]  # a width multiplier


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """`value` rounded to a multiple of `divisor`, at least `minimum`, never below 90 % of it."""
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
