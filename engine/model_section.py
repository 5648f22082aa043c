"""`model`, `anchor_generator` and `matcher`: the network, and what is built around it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.options import Options, Section
from cvnets.layers.activation import ActivationOptions, ActivationOverride
from cvnets.layers.init import LayerOptions
from cvnets.layers.norm import NormalizationOptions
from cvnets.weights.preprocessing import SourceName


class ClassifierSection(Section):
    """`model.classification`."""

    name: str = Field("mobilevit", description="which network")
    n_classes: int | None = Field(None, ge=1, description="classes; null: as many as the data have")
    pretrained: str | None = Field(None, description="weights to start from, a file")
    classifier_dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout before the last layer; null: the network's own rate"
    )
    gradient_checkpointing: bool = Field(False, description="recompute stages instead of storing")
    freeze_batch_norm: bool = Field(
        False, description="batch norms keep their statistics, weights and biases"
    )
    enable_layer_wise_lr_decay: bool = Field(
        False, description="layers learn the more slowly the nearer they are to the image"
    )
    layer_wise_lr_decay_rate: float = Field(
        1.0, gt=0, le=1, description="learning rate of a layer over that of the next one"
    )
    finetune_pretrained_model: bool = Field(
        False,
        description="train a new classifier on top of `pretrained`, also where its own has as many classes",
    )
    n_pretrained_classes: int | None = Field(
        None, ge=1, description="classes of `pretrained`, to be compared with the file; null: any"
    )
    activation: ActivationOverride = Field(
        default_factory=ActivationOverride,
        description="activation inside the classifier, instead of model.activation",
    )


class DetectorSection(Section):
    """`model.detection`."""

    name: str = Field("", description="which detector; empty: none")
    n_classes: int | None = Field(
        None, ge=2, description="classes and the background; null: as many as the data have"
    )
    pretrained: str | None = Field(None, description="weights of the whole detector, a file")
    output_stride: Literal[8, 16, 32] | None = Field(
        None, description="image size over size of the backbone's last map; null: the network's own"
    )
    freeze_batch_norm: bool = Field(
        False, description="batch norms keep their statistics, weights and biases"
    )


class SegmentorSection(Section):
    """`model.segmentation`."""

    name: str = Field("", description="which network of segmentation; empty: none")
    seg_head: str = Field("deeplabv3", description="which head")
    n_classes: int | None = Field(None, ge=2, description="classes; null: as many as the data have")
    pretrained: str | None = Field(None, description="weights of the whole network, a file")
    output_stride: Literal[8, 16, 32] | None = Field(
        None, description="image size over size of the backbone's last map; null: the network's own"
    )
    finetune_pretrained_model: bool = Field(
        False,
        description="train a new head on top of `pretrained`, also where its own has as many classes",
    )
    n_pretrained_classes: int | None = Field(
        None, ge=1, description="classes of `pretrained`, to be compared with the file; null: any"
    )
    lr_multiplier: float = Field(
        1.0, gt=0.0, description="learning rate of the head over that of the backbone"
    )
    use_aux_head: bool = Field(False, description="an auxiliary head on level 4, in training")
    aux_dropout: float = Field(
        0.1, ge=0.0, lt=1.0, description="dropout of channels inside the auxiliary head"
    )
    use_level5_exp: bool = Field(
        False, description="the head looks at the map behind the last 1x1 convolution instead of l5"
    )
    freeze_batch_norm: bool = Field(
        False, description="batch norms keep their statistics, weights and biases"
    )
    activation: ActivationOverride = Field(
        default_factory=ActivationOverride,
        description="activation inside the head, instead of model.activation",
    )


class AnchorSection(Section):
    """`anchor_generator`."""

    name: str = Field("ssd", description="which anchor generator")


class MatcherSection(Section):
    """`matcher`."""

    name: str = Field("ssd", description="which matcher of anchors and objects")


class ModelSection(Options):
    """`model`."""

    activation: ActivationOptions = Field(
        default_factory=ActivationOptions, description="activation"
    )
    normalization: NormalizationOptions = Field(
        default_factory=NormalizationOptions, description="normalisation layers"
    )
    layer: LayerOptions = Field(default_factory=LayerOptions, description="initialisation, pooling")
    classification: ClassifierSection = Field(
        default_factory=ClassifierSection, description="the classifier, or the backbone"
    )
    detection: DetectorSection = Field(
        default_factory=DetectorSection, description="the detector around the backbone"
    )
    segmentation: SegmentorSection = Field(
        default_factory=SegmentorSection, description="the network of segmentation around it"
    )
    freeze_modules: str = Field(
        "",
        description="what is not trained and stays in evaluation mode: regular expressions, by "
        "commas, matched from the start of the dotted names of modules and parameters",
    )
    resume_exclude_scopes: str = Field(
        "",
        description="entries of a weights file that are left out: regular expressions, by commas",
    )
    ignore_missing_scopes: str = Field(
        "", description="entries that a weights file may lack: regular expressions, by commas"
    )
    weights_source: SourceName = Field(
        "auto",
        description="where a weights file comes from, if its names do not tell; it decides between "
        "RGB and BGR",
    )
    rename_scopes_map: tuple[tuple[str, str], ...] = Field(
        (), description="[pattern, replacement] pairs applied to the keys of a weights file"
    )
