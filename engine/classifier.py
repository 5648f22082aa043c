"""Build the network of `model.classification`."""

from __future__ import annotations

from torch import nn

from cvnets.kinds import CLASSIFIERS
from cvnets.layers.style import LayerStyle
from engine.recipe import ModelSection


def build_classifier(section: ModelSection, num_classes: int) -> nn.Module:
    """The network that `model.classification` names, initialised as `model.layer` says."""
    own = section.classification
    style = LayerStyle(section.normalization, section.activation, section.layer)
    style = style.with_activation(own.activation)
    model: nn.Module = CLASSIFIERS.build(
        own,
        style=style,
        num_classes=num_classes,
        classifier_dropout=own.classifier_dropout,
        output_stride=None,
    )
    model.gradient_checkpointing = own.gradient_checkpointing  # type: ignore[assignment]
    return model
