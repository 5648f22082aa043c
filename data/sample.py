"""The types that travel: a key asks for a sample, a batch answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class SampleKey(NamedTuple):
    """What a plan holds and a data set receives: which image, at which size, drawn with which seed.

    `height` and `width` are pixels; `seed` is a 63-bit number, a pure function of (run seed,
    epoch, position), and the only source of randomness of the sample.
    """

    index: int  # type: ignore[assignment]
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class Sample:
    """One image after its transforms: uint8 [3, H, W] RGB, its target, its original (h, w)."""

    image: Tensor
    target: Any
    size: tuple[int, int]


@dataclass(frozen=True)
class Replacement:
    """An unreadable training image, and the one that stands in for it (indices and the reason)."""

    index: int
    by: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """What a loader yields.

    `images` uint8 [B, 3, H, W] RGB; `targets` what the task's collation makes of the samples'
    targets; `ids` the indices asked for; `sizes` the original (height, width) of each image.
    """

    images: Tensor
    targets: Any
    ids: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    replaced: tuple[Replacement, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; called by the DataLoader."""
        return replace(self, images=self.images.pin_memory(), targets=_pinned(self.targets))

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; asynchronous from page-locked memory."""
        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, targets=moved(self.targets, device))


def _pinned(targets: Any) -> Any:
    if isinstance(targets, Tensor):
        return targets.pin_memory()
    if isinstance(targets, dict):
        return {key: _pinned(value) for key, value in targets.items()}
    if isinstance(targets, list | tuple):
        return type(targets)(_pinned(value) for value in targets)
    return targets


def moved(targets: Any, device: torch.device) -> Any:
    """Nested targets (tensors in dicts, lists, tuples) on `device`."""
    if isinstance(targets, Tensor):
        return targets.to(device, non_blocking=True)
    if isinstance(targets, dict):
        return {key: moved(value, device) for key, value in targets.items()}
    if isinstance(targets, list | tuple):
        return type(targets)(moved(value, device) for value in targets)
    return targets
