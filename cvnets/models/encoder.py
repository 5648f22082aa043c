"""ImageEncoder: the contract of every backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from cvnets.layers.style import LayerStyle
from cvnets.models.recompute import run_recomputed

# The stages in order, and the name of the map behind each.
LEVELS: dict[str, str | None] = {
    "conv_1": None,
    "layer_1": "l1",
    "layer_2": "l2",
    "layer_3": "l3",
    "layer_4": "l4",
    "layer_5": "l5",
    "conv_1x1_exp": "l5_exp",
}


def by_level(*values: int) -> dict[str, int]:
    """One value for each of l1 .. l5 and l5_exp."""
    return dict(zip((level for level in LEVELS.values() if level), values, strict=True))


class ImageEncoder(nn.Module):
    """A classifier of images that also serves as the backbone of other tasks.

    A family sets `conv_1`, `layer_1` .. `layer_5`, `conv_1x1_exp` and `classifier` in this order
    after calling `super().__init__`; `channels` and `strides` describe the maps by level.
    """

    family_style: ClassVar[LayerStyle] = LayerStyle()  # what `create_model` builds with by default
    fixed_activation: ClassVar[bool] = False  # whether the style's activation counts for nothing
    own_layers: ClassVar[bool] = False  # whether nothing of the style counts
    family: ClassVar[str] = ""  # whose weights fit: the key of the tables in cvnets.weights
    head: ClassVar[tuple[str, ...]] = ("classifier",)  # the parts that depend on the classes
    behind: ClassVar[tuple[str, ...]] = ("conv_1x1_exp",)  # what backbones go without, beside it

    conv_1: nn.Module | None
    layer_1: nn.Module | None
    layer_2: nn.Module | None
    layer_3: nn.Module | None
    layer_4: nn.Module | None
    layer_5: nn.Module | None
    conv_1x1_exp: nn.Module | None
    classifier: nn.Module | None

    def __init__(self, *, channels: Mapping[str, int], strides: Mapping[str, int]):
        super().__init__()
        self.gradient_checkpointing = False
        self._channels = dict(channels)
        self._strides = dict(strides)

    @property
    def channels(self) -> dict[str, int]:
        """Level -> channels of its map."""
        return dict(self._channels)

    @property
    def strides(self) -> dict[str, int]:
        """Level -> input size over size of its map (rounded up; MobileViT v2 rounds on to even)."""
        return dict(self._strides)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], float RGB in [0, 1] -> logits [B, num_classes]."""
        if self.classifier is None:
            raise RuntimeError(
                "this network was cut by as_backbone() and has no classifier: use features()"
            )
        maps = images
        for name in LEVELS:
            maps = self._run(name, maps)
        return self.classifier(maps)

    def features(self, images: Tensor, levels: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Images [B, 3, H, W] -> the maps [B, channels, H / stride, W / stride] by level.

        `levels`: those wanted, else all that the network has. Nothing runs behind the last one.
        """
        wanted = self._checked(self._channels if levels is None else levels)
        found: dict[str, Tensor] = {}
        maps = images
        for name, level in LEVELS.items():
            if len(found) == len(wanted):
                break
            maps = self._run(name, maps)
            if level is not None and level in wanted:
                found[level] = maps
        return found

    def as_backbone(self, levels: Iterable[str]) -> ImageEncoder:
        """This network itself, cut for good: no classifier, nothing behind the last of `levels`.

        What remains takes part in computing `levels`, so every parameter gets a gradient.
        `channels`, `strides` and the default of `features` are then those of `levels`.
        """
        wanted = self._checked(levels)
        self.classifier = None
        for name, level in reversed(LEVELS.items()):
            if level in wanted:
                break
            setattr(self, name, None)
        self._channels = {level: self._channels[level] for level in wanted}
        self._strides = {level: self._strides[level] for level in wanted}
        return self

    def layers_in_order(self) -> tuple[tuple[str, ...], ...]:
        """Names of the parts that have parameters, by their depth from the image to the classifier.

        Each entry is what counts as one layer; empty if they are not known.
        """
        names = (*LEVELS, "classifier")
        return tuple((name,) for name in names if _has_parameters(getattr(self, name)))

    def _checked(self, levels: Iterable[str]) -> tuple[str, ...]:
        """`levels` in the order of the network; ValueError for one it does not have, or none."""
        asked = set(levels)
        unknown = sorted(asked - self._channels.keys())
        if unknown or not asked:
            raise ValueError(
                f"{type(self).__name__} has the levels {', '.join(self._channels)}; "
                f"asked for: {', '.join(unknown) or 'none'}"
            )
        return tuple(level for level in self._channels if level in asked)

    def _run(self, name: str, maps: Tensor) -> Tensor:
        stage: nn.Module = getattr(self, name)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return run_recomputed(stage, maps)
        return stage(maps)


def _has_parameters(part: object) -> bool:
    """Whether there is anything to train in a part of a network, which may be missing."""
    return isinstance(part, nn.Module) and any(True for _ in part.parameters())
