"""Build the network of `model.classification`."""

from __future__ import annotations

from torch import nn

from config.errors import UserError
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.norm import freeze_batch_norms
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder
from engine.model_section import ModelSection


def build_classifier(
    section: ModelSection, num_classes: int, output_stride: int | None = None
) -> nn.Module:
    """The network that `model.classification` names, initialised as `model.layer` says.

    `output_stride`: image size over size of its last map; None: the network's own. UserError for
    batch norms to freeze, or a gradient to recompute, where there are none. Where the recipe
    names no activation it is that of the network's family.
    """
    own = section.classification
    style = LayerStyle(section.normalization, section.activation, section.layer)
    style = style.with_activation(own.activation)
    if style.activations.name is None:
        family = getattr(CLASSIFIERS[own.name].registered, "family_style", LayerStyle())
        style = style.with_activation(family.activations.name or "relu")
    model: nn.Module = CLASSIFIERS.build(
        own,
        style=style,
        num_classes=num_classes,
        classifier_dropout=own.classifier_dropout,
        output_stride=output_stride,
    )
    if own.freeze_batch_norm and not freeze_batch_norms(model):
        raise UserError(
            "model.classification.freeze_batch_norm: the network has no batch norm to freeze; set it "
            "to false"
        )
    if isinstance(model, ImageEncoder):
        model.gradient_checkpointing = own.gradient_checkpointing
    elif own.gradient_checkpointing:
        raise UserError(
            f"model.classification.gradient_checkpointing: {own.name} cannot recompute; set it to false"
        )
    return model
