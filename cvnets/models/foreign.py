"""Networks of other libraries as ImageEncoders."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.errors import UserError
from cvnets.models.pyramid import PyramidEncoder, resample, rounded_up
from cvnets.models.strides import plan_strides

log = logging.getLogger(__name__)

LEVELS = ("l1", "l2", "l3", "l4", "l5")  # each at half the size of the one before
# What a network raises for an image that it does not take, and its constructor for an argument.
WRONG_IMAGE = (AssertionError, RuntimeError, ValueError)
WRONG_ARGUMENT = (AssertionError, NotImplementedError, TypeError)


class Tap(NamedTuple):
    """A place in a network where a map can be had.

    `stride`: image size over map size, which need not be a power of two; `behind`: the map is that
    of the convolution between the last stage and the classifier.
    """

    place: int | str
    stride: float
    channels: int
    behind: bool = False


class InputSizes(NamedTuple):
    """The sizes that a network takes: one (height, width), or all multiples of `step` pixels."""

    only: tuple[int, int] | None = None
    step: int = 1

    def nearest(self, size: Sequence[int]) -> tuple[int, int]:
        """The size that an image of `size` is brought to."""
        height, width = self.only or (self.step * side for side in rounded_up(size, self.step))
        return height, width


class ForeignEncoder(PyramidEncoder):
    """A network of another library, unchanged below `network`, with its own start values.

    A level is the last map of that stride. A level without a map of its own (all but one for
    plain transformers) is the nearest map, resampled; l1 is there only where the network has it.
    Every map is brought to the size that its stride says.

    A library gives `_taps`, `_tapped` and `_prune`. The network is tried out on the meta device,
    at first with images of its `native` (height, width).
    """

    fixed_activation = True
    own_layers = True

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        native: tuple[int, int],
        output_stride: int | None,
    ):
        shapes = plan_strides([2] * len(LEVELS), output_stride)
        strides = dict(zip(LEVELS, (shape.total_stride for shape in shapes), strict=True))
        trial = on_meta(network)
        taps = self._found_taps(trial, name, native)
        chosen = by_level(taps)
        super().__init__(
            channels={level: tap.channels for level, tap in chosen.items()},
            strides={level: strides[level.removesuffix("_exp")] for level in chosen},
        )
        self.name = name
        self._native = native
        self._places = {level: tap.place for level, tap in chosen.items()}
        places = self._places_of(chosen)

        def run(size: tuple[int, int]) -> None:
            trial(blank(trial, size))
            self._tapped(trial, blank(trial, size), places)

        self._sizes = input_sizes(run, native, math.ceil(max(tap.stride for tap in taps)))
        self._report()
        self.network = network

    def _found_taps(self, trial: nn.Module, name: str, native: tuple[int, int]) -> list[Tap]:
        try:
            with torch.no_grad():
                return self._taps(trial, blank(trial, native))
        except WRONG_IMAGE as error:
            raise UserError(
                f"model.classification.name: {name} cannot be used: its maps cannot be found "
                f"without values ({error})"
            ) from None

    def layers_in_order(self) -> tuple[tuple[str, ...], ...]:
        """The layers of other libraries are not known."""
        return ()

    def _report(self) -> None:
        """Say which images will be resized."""
        if self._sizes.only:
            height, width = self._sizes.only
            log.info("%s takes images of %d x %d; others are resized", self.name, height, width)
        elif self._sizes.step > 1:
            log.info(
                "%s takes sides that are multiples of %d; other images are enlarged",
                self.name,
                self._sizes.step,
            )

    def _taps(self, network: nn.Module, images: Tensor) -> list[Tap]:
        """All taps in the order of the network, found with `images` of its native size."""
        raise NotImplementedError

    def _tapped(self, network: nn.Module, images: Tensor, places: Sequence[Any]) -> list[Tensor]:
        """The maps [B, C, H, W] at `places`, which are in the order of the network."""
        raise NotImplementedError

    def _prune(self, network: nn.Module, places: Sequence[Any]) -> None:
        """Remove what does not run for the maps at `places`."""
        raise NotImplementedError

    def _logits(self, images: Tensor) -> Tensor:
        return self.network(self._fitted(images))

    def _maps(self, images: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        places = self._places_of(levels)
        tapped = self._tapped(self.network, self._fitted(images), places)
        found = dict(zip(places, tapped, strict=True))
        return {
            level: resample(
                found[self._places[level]], rounded_up(images.shape[2:], self._strides[level])
            )
            for level in levels
        }

    def _fitted(self, images: Tensor) -> Tensor:
        size = self._sizes.nearest(images.shape[2:])
        if tuple(images.shape[2:]) == size:
            return images
        return F.interpolate(images, size, mode="bilinear", antialias=True)

    def _places_of(self, levels: Iterable[str]) -> list[Any]:
        """The places that `levels` need, each once, in the order of the network."""
        return list(dict.fromkeys(self._places[level] for level in levels))

    def _cut(self, levels: Sequence[str]) -> None:
        """What is left without an influence on the maps stays as buffers, with its names."""
        places = self._places_of(levels)
        self._prune(self.network, places)
        for name in self._without_influence(places):
            owner, _, leaf = name.rpartition(".")
            module = self.network.get_submodule(owner)
            value = getattr(module, leaf).detach()
            delattr(module, leaf)
            module.register_buffer(leaf, value)

    def _without_influence(self, places: Sequence[Any]) -> list[str]:
        """The parameters of the pruned network that the maps at `places` do not depend on."""
        trial = on_meta(self.network)
        with torch.enable_grad():
            maps = self._tapped(trial, blank(trial, self._native), places)
            torch.autograd.backward([value.sum() for value in maps])
        return [name for name, value in trial.named_parameters() if value.grad is None]


def on_meta(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes but no values."""
    empty: dict[int, Tensor] = {}
    for parameter in network.parameters():
        empty[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"))
    for buffer in network.buffers():
        empty[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, empty).eval()


def blank(network: nn.Module, size: tuple[int, int]) -> Tensor:
    """An image of `size` for a network on the meta device."""
    return torch.zeros(1, 3, *size, dtype=next(network.parameters()).dtype, device="meta")


def by_level(taps: Sequence[Tap]) -> dict[str, Tap]:
    """The tap of each level, l5_exp the last; l1 only if there is one of stride 2.

    Of several taps of one stride the last counts. A level without an own one gets the nearest,
    of two equally near the deeper.
    """
    own = {round(math.log2(tap.stride)): tap for tap in taps if not tap.behind}
    chosen = {}
    for exponent, level in enumerate(LEVELS, start=1):
        if level != "l1" or exponent in own:
            chosen[level] = own[min(own, key=lambda other: (abs(other - exponent), -other))]
    last = taps[-1] if taps[-1].behind else chosen["l5"]
    return {**chosen, "l5_exp": last}


def input_sizes(
    run: Callable[[tuple[int, int]], None], native: tuple[int, int], step: int
) -> InputSizes:
    """What sizes a network takes, found by trying; `step`: its last stride."""

    def takes(*sizes: tuple[int, int]) -> bool:
        try:
            with torch.no_grad():
                for size in sizes:
                    run(size)
        except WRONG_IMAGE:
            return False
        return True

    height, width = native
    if takes((height + 11, width + 44), (height - 19, width + 3)):
        return InputSizes()
    height, width = (step * side for side in rounded_up(native, step))
    if takes((height + step, width + 2 * step), (height - step, width + step)):
        return InputSizes(step=step)
    return InputSizes(only=native)


def accepted(make: Callable[..., nn.Module], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments `asked`, each tried on its own, with which a network can be made."""

    def takes(key: str) -> bool:
        try:
            with torch.device("meta"):
                make(**{key: asked[key]})
        except WRONG_ARGUMENT:
            return False
        return True

    return {key: value for key, value in asked.items() if takes(key)}
