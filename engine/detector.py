"""Build the network of `model.detection` around the one of `model.classification`."""

from __future__ import annotations

from collections.abc import Callable

from config.errors import UserError
from cvnets.kinds import ANCHOR_GENERATORS, DETECTORS, MATCHERS
from cvnets.layers.style import LayerStyle
from cvnets.models.dense import Detector
from cvnets.models.encoder import ImageEncoder
from engine.backbone import build_backbone, check_dense
from engine.recipe import Recipe


def build_detector(
    recipe: Recipe, num_classes: int, load_backbone: Callable[[ImageEncoder], None]
) -> Detector:
    """The detector, initialised; `num_classes` counts the background, too.

    `load_backbone` gets the whole classifier, before it is cut, to load its weights.
    """
    section = recipe.model
    detector = DETECTORS.build(
        section.detection,
        encoder=build_backbone(section, section.detection.output_stride, load_backbone),
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
    check_dense(detector, "detection", section)
    return detector
