"""The shape of a recipe: its sections, and who owns each."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, create_model

from config.options import Options, Section
from config.registry import OptionsType, Registry, compose
from cvnets.kinds import (
    ANCHOR_GENERATORS,
    CLASSIFIERS,
    DETECTORS,
    MATCHERS,
    SEGMENTATION_HEADS,
    SEGMENTORS,
)
from cvnets.layers.activation import ActivationOptions, ActivationOverride
from cvnets.layers.init import LayerOptions
from cvnets.layers.norm import NormalizationOptions
from cvnets.weights.preprocessing import SourceName
from data.datasets.section import DatasetSection
from data.kinds import (
    CLASSIFICATION_DATASETS,
    DETECTION_DATASETS,
    SAMPLERS,
    SEGMENTATION_DATASETS,
    TRANSFORMS,
)
from data.sampler.section import SamplerSection
from data.transforms.section import ImageAugmentationSection
from engine.distributed import DistributedOptions
from engine.kinds import METRICS, OBSERVERS, TASKS
from engine.settings import CommonOptions, EmaOptions, EvaluationSection, StatsOptions
from loss_fn.kinds import CLASSIFICATION_LOSSES, DETECTION_LOSSES, SEGMENTATION_LOSSES
from loss_fn.section import (
    ClassificationLossSection,
    DetectionLossSection,
    LossSection,
    SegmentationLossSection,
)
from optim.kinds import OPTIMIZERS, SCHEDULES
from optim.scheduler.section import SchedulerSection
from optim.section import OptimSection

# every package whose import registers components; a plugin adds its own
COMPONENTS = (
    *("cvnets", "data.sampler", "data.datasets", "data.transforms"),
    *("loss_fn", "optim", "engine.components"),
)
RECIPES = Path(importlib.import_module("config").__path__[0])


class ClassifierSection(Section):
    """`model.classification`."""

    name: str = Field("mobilevit", description="which network")
    n_classes: int | None = Field(None, ge=1, description="classes; null: as many as the data have")
    pretrained: str | None = Field(None, description="weights to start from, a file")
    classifier_dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout before the last layer; null: the network's own rate"
    )
    gradient_checkpointing: bool = Field(False, description="recompute stages instead of storing")
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


class Recipe(Options):
    """All options of a run. `origins` says where each given key was given."""

    taskname: str = Field("", description="a free label")
    common: CommonOptions = Field(default_factory=CommonOptions, description="the run")
    ddp: DistributedOptions = Field(default_factory=DistributedOptions, description="processes")
    dataset: DatasetSection = Field(default_factory=DatasetSection, description="the data")
    sampler: SamplerSection = Field(default_factory=SamplerSection, description="sizes and batches")
    image_augmentation: ImageAugmentationSection = Field(
        default_factory=ImageAugmentationSection, description="transforms"
    )
    model: ModelSection = Field(default_factory=ModelSection, description="the network")
    anchor_generator: AnchorSection = Field(
        default_factory=AnchorSection, description="the anchors of a detector"
    )
    matcher: MatcherSection = Field(
        default_factory=MatcherSection, description="which anchor answers for which object"
    )
    loss: LossSection = Field(default_factory=LossSection, description="the loss")
    optim: OptimSection = Field(default_factory=OptimSection, description="the optimizer")
    scheduler: SchedulerSection = Field(
        default_factory=SchedulerSection, description="learning rate"
    )
    ema: EmaOptions = Field(default_factory=EmaOptions, description="averaged weights")
    stats: StatsOptions = Field(default_factory=StatsOptions, description="metrics")
    evaluation: EvaluationSection = Field(
        default_factory=EvaluationSection, description="stand-alone evaluation"
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _notes: tuple[str, ...] = PrivateAttr(default=())

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> `file:line` or `command line`, for the keys that were given."""
        return self._origins

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the recipe was read (old spellings)."""
        return self._notes


def recipe_type() -> type[Recipe]:
    """The recipe with a sub-section for every component that is registered by now."""
    for package in COMPONENTS:
        importlib.import_module(package)
    sections = {
        "common": compose(CommonOptions, observers=OBSERVERS),
        "dataset": compose(DatasetSection, *_dataset_kinds(), category=TASKS),
        "sampler": compose(SamplerSection, SAMPLERS),
        "image_augmentation": compose(ImageAugmentationSection, enabled=TRANSFORMS),
        "model": _with(
            ModelSection,
            classification=compose(ClassifierSection, CLASSIFIERS),
            detection=compose(DetectorSection, DETECTORS),
            segmentation=compose(SegmentorSection, SEGMENTORS, seg_head=SEGMENTATION_HEADS),
        ),
        "anchor_generator": compose(AnchorSection, ANCHOR_GENERATORS),
        "matcher": compose(MatcherSection, MATCHERS),
        "loss": _with(
            LossSection,
            classification=compose(ClassificationLossSection, CLASSIFICATION_LOSSES),
            detection=compose(DetectionLossSection, DETECTION_LOSSES),
            segmentation=compose(SegmentationLossSection, SEGMENTATION_LOSSES),
        ),
        "optim": compose(OptimSection, OPTIMIZERS),
        "scheduler": compose(SchedulerSection, SCHEDULES),
        "stats": compose(StatsOptions, train=METRICS, val=METRICS),
    }
    return _with(Recipe, **sections)


def _dataset_kinds() -> tuple[Registry, ...]:
    return (CLASSIFICATION_DATASETS, DETECTION_DATASETS, SEGMENTATION_DATASETS)


def _with(base: type[OptionsType], **sections: type[Options]) -> type[OptionsType]:
    """`base` with other types of some of its sections, which keep their descriptions."""
    fields: dict[str, Any] = {
        name: (kind, Field(default_factory=kind, description=base.model_fields[name].description))
        for name, kind in sections.items()
    }
    return create_model(base.__name__, __base__=base, **fields)
