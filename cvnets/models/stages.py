"""The stages of a network from the rows of its table: one row per block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from torch import nn

from cvnets.models.strides import StageShape


class Row(Protocol):
    """A block in a table: channels of its result, and stride (1 behind the first of a stage)."""

    @property
    def channels(self) -> int: ...

    @property
    def stride(self) -> int: ...


class Place(NamedTuple):
    """What a block gets from its place: `depth` is 0 for the network's first, 1 for its last."""

    in_channels: int
    stride: int
    dilation: int
    depth: float


AnyRow = TypeVar("AnyRow", bound=Row)


def build_stages(
    stages: Sequence[Sequence[AnyRow]],
    shapes: Sequence[StageShape],
    *,
    in_channels: int,
    make: Callable[[AnyRow, Place], nn.Module],
    name: str = "{index}",
) -> list[nn.Module]:
    """One Sequential of blocks for each stage; `make` builds a block.

    `name` of a block: {index} is its number in the stage, {stride} that of the table, so names do
    not depend on the dilation that `shapes` may have instead of a stride.
    """
    last = sum(map(len, stages)) - 1
    built: list[nn.Module] = []
    number = 0
    for rows, shape in zip(stages, shapes, strict=True):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for index, row in enumerate(rows):
            stride, dilation = (
                (1, shape.dilation) if index else (shape.stride, shape.entry_dilation)
            )
            place = Place(in_channels, stride, dilation, number / last)
            blocks[name.format(index=index, stride=row.stride)] = make(row, place)
            in_channels = row.channels
            number += 1
        built.append(nn.Sequential(blocks))
    return built
