"""What detectors and networks of segmentation have in common: the backbone, its weights, its norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from config.errors import UserError
from cvnets.layers.norm import freeze_batch_norms
from cvnets.models.dense import DenseModel
from cvnets.models.encoder import ImageEncoder
from engine.classifier import build_classifier
from engine.model_section import ModelSection
from engine.pretrained import load_pretrained
from engine.resolved import flat

if TYPE_CHECKING:
    from engine.task import Task

ANY_NUMBER = 1000  # of classes of a classifier that is cut off


def build_backbone(
    section: ModelSection, output_stride: int | None, load: Callable[[ImageEncoder], None]
) -> ImageEncoder:
    """The network of `model.classification` with the weights that `load` gives it."""
    encoder = build_classifier(section, ANY_NUMBER, output_stride)
    if not isinstance(encoder, ImageEncoder):
        raise UserError(
            f"model.classification.name: {section.classification.name} gives no maps (it is no "
            "ImageEncoder), which detectors and networks of segmentation need; choose another network"
        )
    load(encoder)
    return encoder


def load_backbone(task: Task, encoder: ImageEncoder) -> None:
    """Give the backbone the weights of `model.classification`, if none of the whole will follow."""
    key = "model.classification.pretrained"
    weights = flat(task.recipe)
    if weights[key] and not task.resumed and not weights[task.pretrained]:
        load_pretrained(encoder, task, key, weights[key], backbone=True)


def check_dense(
    network: DenseModel, kind: Literal["detection", "segmentation"], section: ModelSection
) -> None:
    """Look whether the network keeps its backbone; freeze its batch norms if the recipe says so."""
    own = getattr(section, kind)
    if not isinstance(getattr(network, "encoder", None), ImageEncoder):
        raise UserError(
            f"model.{kind}.name: {own.name} keeps no backbone; its class has to set self.encoder to "
            "the encoder that it is given"
        )
    if own.freeze_batch_norm and not freeze_batch_norms(network):
        raise UserError(
            f"model.{kind}.freeze_batch_norm: the network has no batch norm to freeze "
            f"(model.normalization.name is {section.normalization.name}); set it to false"
        )
