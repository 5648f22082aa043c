"""Build the network of `model.segmentation` around the one of `model.classification`."""

from __future__ import annotations

from collections.abc import Callable

from config.errors import UserError
from cvnets.kinds import SEGMENTATION_HEADS, SEGMENTORS
from cvnets.layers.style import LayerStyle
from cvnets.models.dense import Segmentor
from cvnets.models.encoder import ImageEncoder
from cvnets.models.segmentation import SegmentationHead
from engine.backbone import build_backbone, check_dense
from engine.recipe import Recipe


def build_segmentor(
    recipe: Recipe, num_classes: int, load_backbone: Callable[[ImageEncoder], None]
) -> Segmentor:
    """The network of segmentation, initialised.

    `load_backbone` gets the whole classifier, before it is cut, to load its weights.
    """
    model, section = recipe.model, recipe.model.segmentation
    encoder = build_backbone(model, section.output_stride, load_backbone)
    style = LayerStyle(model.normalization, model.activation, model.layer)
    style = style.with_activation(section.activation)
    head = SEGMENTATION_HEADS.build(
        section,
        name=section.seg_head,
        channels=encoder.channels,
        level="l5_exp" if section.use_level5_exp else "l5",
        num_classes=num_classes,
        aux_dropout=section.aux_dropout if section.use_aux_head else None,
        style=style,
    )
    if not isinstance(head, SegmentationHead):
        raise UserError(
            f"model.segmentation.seg_head: {section.seg_head} is no "
            "cvnets.models.segmentation.SegmentationHead; derive its class from it"
        )
    style.initialise(head)
    segmentor = SEGMENTORS.build(section, encoder=encoder, seg_head=head)
    if not isinstance(segmentor, Segmentor):
        raise UserError(
            f"model.segmentation.name: {section.name} is no cvnets.models.dense.Segmentor; derive its "
            "class from it"
        )
    check_dense(segmentor, "segmentation", model)
    return segmentor
