"""The shape of a recipe: its sections, and who owns each."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import GenericAlias
from typing import Any

from pydantic import Field, PrivateAttr, create_model

from config.options import IF_GIVEN, Options
from config.registry import OptionsType, Registry, compose
from cvnets.kinds import (
    ANCHOR_GENERATORS,
    CLASSIFIERS,
    DETECTORS,
    MATCHERS,
    SEGMENTATION_HEADS,
    SEGMENTORS,
)
from data.datasets.section import DatasetSection
from data.kinds import (
    CLASSIFICATION_DATASETS,
    DETECTION_DATASETS,
    SAMPLERS,
    SEGMENTATION_DATASETS,
    TRANSFORMS,
)
from data.sampler.section import LinkOptions, LinkSection, SamplerSection
from data.transforms.section import ImageAugmentationSection
from engine.distributed import DistributedOptions
from engine.expected import ExpectedOptions
from engine.kinds import METRICS, OBSERVERS, TASKS
from engine.model_section import (
    AnchorSection,
    ClassifierSection,
    DetectorSection,
    MatcherSection,
    ModelSection,
    SegmentorSection,
)
from engine.settings import CommonOptions, EmaOptions, EvaluationSection, StatsOptions
from loss_fn.kinds import (
    CLASSIFICATION_LOSSES,
    DETECTION_LOSSES,
    DISTILLATION_LOSSES,
    SEGMENTATION_LOSSES,
)
from loss_fn.section import (
    ClassificationLossSection,
    DetectionLossSection,
    DistillationLossSection,
    LossSection,
    SegmentationLossSection,
    TermSection,
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


class TeacherSection(Options):
    """`teacher`."""

    model: ModelSection = Field(default_factory=ModelSection, description="its network")


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
    teacher: TeacherSection = Field(
        default_factory=TeacherSection,
        description="the teacher of loss.category=distillation",
        json_schema_extra=IF_GIVEN,
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
    expected: ExpectedOptions = Field(
        default_factory=ExpectedOptions,
        description="what the recipe was published to reach",
        json_schema_extra=IF_GIVEN,
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
    model = _with(
        ModelSection,
        classification=compose(ClassifierSection, CLASSIFIERS),
        detection=compose(DetectorSection, DETECTORS),
        segmentation=compose(SegmentorSection, SEGMENTORS, seg_head=SEGMENTATION_HEADS),
    )
    losses = {
        "classification": compose(ClassificationLossSection, CLASSIFICATION_LOSSES),
        "detection": compose(DetectionLossSection, DETECTION_LOSSES),
        "segmentation": compose(SegmentationLossSection, SEGMENTATION_LOSSES),
        "distillation": compose(DistillationLossSection, DISTILLATION_LOSSES),
    }
    sections = {
        "common": compose(CommonOptions, observers=OBSERVERS),
        "dataset": compose(DatasetSection, *_dataset_kinds(), category=TASKS),
        "sampler": _with(
            compose(SamplerSection, SAMPLERS),
            chain_sampler=_list_of(
                _with(LinkOptions, sampler_config=compose(LinkSection, SAMPLERS))
            ),
        ),
        "image_augmentation": compose(ImageAugmentationSection, enabled=TRANSFORMS),
        "model": model,
        "teacher": _with(TeacherSection, model=model),
        "anchor_generator": compose(AnchorSection, ANCHOR_GENERATORS),
        "matcher": compose(MatcherSection, MATCHERS),
        "loss": _with(LossSection, **losses, composite_loss=_list_of(_with(TermSection, **losses))),
        "optim": compose(OptimSection, OPTIMIZERS),
        "scheduler": compose(SchedulerSection, SCHEDULES),
        "stats": compose(StatsOptions, train=METRICS, val=METRICS),
    }
    return _with(Recipe, **sections)


def _dataset_kinds() -> tuple[Registry, ...]:
    return (CLASSIFICATION_DATASETS, DETECTION_DATASETS, SEGMENTATION_DATASETS)


def _list_of(kind: type[Options]) -> GenericAlias:
    """The type of a list of sections."""
    return GenericAlias(tuple, (kind, ...))


def _with(base: type[OptionsType], **types: Any) -> type[OptionsType]:
    """`base` with other types of some of its fields, which keep their descriptions."""
    fields: dict[str, Any] = {}
    for name, kind in types.items():
        old = base.model_fields[name]
        about: Any = {"description": old.description, "json_schema_extra": old.json_schema_extra}
        single = isinstance(kind, type) and issubclass(kind, Options)
        about |= {"default_factory": kind} if single else {"default": old.default}
        fields[name] = (kind, Field(**about))
    return create_model(base.__name__, __base__=base, **fields)
