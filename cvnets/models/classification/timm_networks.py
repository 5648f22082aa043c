"""Every network of timm (Wightman, "PyTorch image models", 2019): `timm/<its name there>`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from pydantic import Field
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from config.errors import UserError, suggestion
from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.style import LayerStyle
from cvnets.models.foreign import ForeignEncoder, Tap, accepted

log = logging.getLogger(__name__)


class TimmOptions(Options):
    """A network of timm."""

    drop_path_rate: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="stochastic depth: largest probability that a branch is left out for an image "
        "in training; null: timm's default for the network",
    )


@CLASSIFIERS.register("timm/*", key="timm", options=TimmOptions)
class TimmEncoder(ForeignEncoder):
    """Any network of timm by its name there, with or without a tag of weights.

    The layers and their start values are timm's, so `style` is not applied. `output_stride` is
    dilation where timm can do it, else the last maps are enlarged.
    """

    family = "timm"
    network: Any

    def __init__(
        self,
        options: TimmOptions,
        *,
        variant: str,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        native = preprocessing(variant)["size"]
        heads = _config(variant)["classifier"]
        if heads is None:
            raise UserError(f"model.classification.name: timm/{variant} has no classifier")
        make = partial(_timm().create_model, variant, num_classes=num_classes)
        demanded = {"drop_rate": classifier_dropout, "drop_path_rate": options.drop_path_rate}
        possible = {
            "output_stride": None if output_stride == 32 else output_stride,
            "dynamic_img_size": True,
        }
        given = {key: value for key, value in {**demanded, **possible}.items() if value is not None}
        taken = accepted(make, given)
        for key, place in PLACES.items():
            if given.get(key) and key not in taken:
                raise UserError(f"{place}: timm/{variant} has no {key}; leave it out")
        if "output_stride" in given and "output_stride" not in taken:
            log.info("timm/%s has no output_stride: its last maps are enlarged", variant)
        self.variant = variant
        super().__init__(
            f"timm/{variant}", make(**taken), native=native, output_stride=output_stride
        )
        listed = (heads,) if isinstance(heads, str) else heads
        self._head = tuple(f"network.{name}" for name in listed)

    @property
    def gradient_checkpointing(self) -> bool:
        """timm's own recomputing. Batch norms count the statistics of a step twice with it."""
        return self._recomputes

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, wanted: bool) -> None:
        if "network" in self._modules:  # else under construction
            try:
                self.network.set_grad_checkpointing(wanted)
            except AssertionError:
                raise UserError(
                    f"model.classification.gradient_checkpointing: {self.name} cannot recompute; "
                    "set it to false"
                ) from None
        self._recomputes = wanted
        if wanted and any(isinstance(m, _BatchNorm) for m in self.modules()):
            log.warning(
                "%s: with gradient_checkpointing timm counts the batch statistics of a step twice",
                self.name,
            )

    def preprocessing(self) -> dict[str, Any]:
        """What weights of the library expect of their images: see the function of this name."""
        return preprocessing(self.variant)

    @property
    def head(self) -> tuple[str, ...]:  # type: ignore[override]
        """The parts that depend on the number of classes."""
        return () if self.is_cut else self._head

    def _taps(self, network: Any, images: Tensor) -> list[Tap]:
        maps = self._tapped(network, images, None)
        height = images.shape[2]
        return [Tap(i, height / value.shape[2], value.shape[1]) for i, value in enumerate(maps)]

    def _tapped(self, network: Any, images: Tensor, places: Sequence[int] | None) -> list[Tensor]:
        return network.forward_intermediates(
            images,
            indices=places,
            norm=False,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )

    def _prune(self, network: Any, places: Sequence[int]) -> None:
        network.prune_intermediate_layers(places, prune_norm=True, prune_head=True)


PLACES = {
    "drop_rate": "model.classification.classifier_dropout",
    "drop_path_rate": "model.classification.timm.drop_path_rate",
}


def preprocessing(variant: str) -> dict[str, Any]:
    """What weights of timm for `variant` (with or without a tag) expect of their images.

    mean and std (RGB in [0, 1]), size (height, width), crop_pct (share of the resized image that
    the crop keeps), interpolation. UserError if timm is missing or has no such network.
    """
    resolved = _timm().data.resolve_data_config(pretrained_cfg=_config(variant))
    return {
        "mean": resolved["mean"],
        "std": resolved["std"],
        "size": resolved["input_size"][1:],
        "crop_pct": resolved["crop_pct"],
        "interpolation": resolved["interpolation"],
    }


def _config(variant: str) -> Mapping[str, Any]:
    """What timm has written down of a network and its weights."""
    timm = _timm()
    if not timm.is_model(variant):
        hint = suggestion(variant, timm.list_models())
        raise UserError(f"model.classification.name: timm has no network {variant!r} - {hint}")
    try:
        return timm.get_pretrained_cfg(variant).to_dict()
    except RuntimeError:  # a tag that does not exist
        network = variant.partition(".")[0]
        hint = suggestion(variant, timm.list_models(f"{network}.*", pretrained=True))
        raise UserError(
            f"model.classification.name: timm has no weights {variant!r} - {hint}"
        ) from None


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise UserError(
            "model.classification.name: timm is not installed; pip install timm"
        ) from None
    return timm
