"""Encoders that make their maps in one pass, and how the map of one scale serves at another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from cvnets.layers.patches import resize
from cvnets.models.encoder import ImageEncoder


class PyramidEncoder(ImageEncoder):
    """An encoder that is no chain of stages: a family gives `_logits` and `_maps`.

    It may lack the level l1; `channels` says which levels there are.
    """

    def __init__(self, *, channels: Mapping[str, int], strides: Mapping[str, int]):
        super().__init__(channels=channels, strides=strides)
        self.is_cut = False

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], float RGB in [0, 1] -> logits [B, num_classes]."""
        if self.is_cut:
            raise RuntimeError(
                "this network was cut by as_backbone() and has no classifier: use features()"
            )
        return self._logits(images)

    def features(self, images: Tensor, levels: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Images [B, 3, H, W] -> the maps [B, channels, H / stride, W / stride] by level.

        `levels`: those wanted, else all that the network has. Sizes that do not divide are
        rounded up.
        """
        return self._maps(images, self._checked(self._channels if levels is None else levels))

    def as_backbone(self, levels: Iterable[str]) -> ImageEncoder:
        """This network itself, cut for good: see `ImageEncoder.as_backbone`."""
        wanted = self._checked(levels)
        self._cut(wanted)
        self.is_cut = True
        return super().as_backbone(wanted)

    def _logits(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def _maps(self, images: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        raise NotImplementedError

    def _cut(self, levels: Sequence[str]) -> None:
        """Remove what `levels` do not need, the classifier apart."""
        raise NotImplementedError


def rounded_up(size: Sequence[int], stride: int) -> tuple[int, int]:
    """(height, width) of the map of an image of `size` at `stride`."""
    height, width = size
    return -(-height // stride), -(-width // stride)


def resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Map [B, C, H, W] at (height, width) `size`, without parameters.

    What is smaller by a factor of 1.5 or more is first averaged over whole pixels; the rest is
    bilinear. Both are deterministic, forwards and backwards.
    """
    factors = [max(1, round(have / want)) for have, want in zip(maps.shape[2:], size, strict=True)]
    if max(factors) > 1:
        maps = F.avg_pool2d(maps, factors, ceil_mode=True)
    return resize(maps, size)
