"""Build the network of `model.detection` around the one of `model.classification`."""

from __future__ import annotations

from collections.abc import Callable

from config.errors import UserError
from cvnets.kinds import ANCHOR_GENERATORS, DETECTORS, MATCHERS
from cvnets.layers.norm import freeze_batch_norms
from cvnets.layers.style import LayerStyle
from cvnets.models.dense import Detector
from cvnets.models.encoder import ImageEncoder
from engine.classifier import build_classifier
from engine.recipe import Recipe

ANY_NUMBER = 1000  # of classes of a classifier that is cut off


def build_detector(
    recipe: Recipe, num_classes: int, load_backbone: Callable[[ImageEncoder], None]
) -> Detector:
    """The detector, initialised; `num_classes` counts the background, too.

    `load_backbone` gets the whole classifier, before it is cut, to load its weights.
    """
    section = recipe.model
    encoder = build_classifier(section, ANY_NUMBER, section.detection.output_stride)
    if not isinstance(encoder, ImageEncoder):
        raise UserError(
            f"model.classification.name: {section.classification.name} gives no maps (it is no "
            "ImageEncoder), which a detector needs; choose another network"
        )
    load_backbone(encoder)
    detector = DETECTORS.build(
        section.detection,
        encoder=encoder,
        style=LayerStyle(section.normalization, section.activation, section.layer),
        num_classes=num_classes,
        anchors=ANCHOR_GENERATORS.build(recipe.anchor_generator),
        matcher=MATCHERS.build(recipe.matcher),
    )
    if not isinstance(detector, Detector):
        raise UserError(
            f"model.detection.name: {section.detection.name} is no cvnets.models.dense.Detector; derive "
            "its class from it"
        )
    if not isinstance(getattr(detector, "encoder", None), ImageEncoder):
        raise UserError(
            f"model.detection.name: {section.detection.name} keeps no backbone; its class has to set "
            "self.encoder to the encoder that it is given"
        )
    if section.detection.freeze_batch_norm and not freeze_batch_norms(detector):
        raise UserError(
            "model.detection.freeze_batch_norm: the network has no batch norm to freeze "
            f"(model.normalization.name is {section.normalization.name}); set it to false"
        )
    return detector
