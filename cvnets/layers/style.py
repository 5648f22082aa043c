"""LayerStyle: what all layers of a model have in common, in one small frozen object."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Generator, nn

from cvnets.layers.activation import (
    ACTIVATIONS,
    ActivationName,
    ActivationOptions,
    ActivationOverride,
)
from cvnets.layers.init import LayerOptions, initialise
from cvnets.layers.norm import NORMS, NormalizationOptions
from cvnets.layers.pooling import GlobalPool


@dataclass(frozen=True)
class LayerStyle:
    """Makes norms, activations and start values; models hand it to their blocks.

    The three fields are the sections `model.normalization`, `model.activation`, `model.layer`.
    """

    normalization: NormalizationOptions = field(default_factory=NormalizationOptions)
    activations: ActivationOptions = field(default_factory=ActivationOptions)
    layer: LayerOptions = field(default_factory=LayerOptions)

    def norm(self, channels: int) -> nn.Module:
        """A norm for a map of `channels`."""
        return NORMS[self.normalization.name](self.normalization, channels)

    def activation(self) -> nn.Module:
        """A new activation."""
        return ACTIVATIONS[self.activations.name or "relu"](self.activations)

    def global_pool(self) -> nn.Module:
        """Map [B, C, H, W] -> [B, C]."""
        return GlobalPool(self.layer.global_pool)

    def initialise(self, network: nn.Module, generator: Generator | None = None) -> None:
        """Give all layers inside `network` their start values (see `layers.init`)."""
        initialise(network, self.layer, generator)

    @property
    def bias_before_norm(self) -> bool:
        """True if convolutions keep their bias in front of a norm: only with layer norms."""
        return self.normalization.name.startswith("layer_norm")

    def with_activation(self, chosen: ActivationOverride | ActivationName) -> LayerStyle:
        """The same style with another activation; an override without a name changes nothing."""
        if isinstance(chosen, str):
            kept = self.activations.model_dump() | {"name": chosen}
            return replace(self, activations=ActivationOptions(**kept))
        if chosen.name is None:
            return self
        return replace(self, activations=ActivationOptions(**chosen.model_dump()))
