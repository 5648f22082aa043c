"""Semantic segmentation."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.errors import UserError
from config.registry import NoOptions
from cvnets.models.dense import SegmentationOutput, Segmentor
from cvnets.models.segmentation.inference import Passes, classes_of, segment
from cvnets.weights.preprocessing import Preprocessing
from data.datasets.segmentation import ade20k, pascal
from data.datasets.segmentation.labels import Labels
from data.kinds import SAMPLERS, SEGMENTATION_DATASETS
from data.loader import Source
from data.sample import Batch, SampleKey
from data.transforms.detection import evaluation_size
from data.transforms.segmentation import (
    SegmentationEvaluationTransform,
    SegmentationTrainingTransform,
    SizeRule,
    collate,
)
from engine.backbone import load_backbone
from engine.checks.finding import Finding
from engine.image_files import PictureKind
from engine.kinds import TASKS
from engine.metrics.mean_iou import MeanIou, confusion
from engine.pretrained import load_pretrained
from engine.recipe import Recipe
from engine.run_folder import run_folder
from engine.segmentor import build_segmentor
from engine.task import Example, Keep, Report, Task
from engine.tasks.segmented import EvaluatedPictures, Segmented, asked_kinds
from loss_fn.kinds import SEGMENTATION_LOSSES
from loss_fn.section import LossesSection

log = logging.getLogger(__name__)
KEY = "model.segmentation"
KNOWN = {
    len(labels): (f"those of {name}", labels)
    for name, labels in (("PASCAL VOC", pascal.LABELS), ("ADE20K", ade20k.LABELS))
}
RIGHT = 0.8  # share of the pixels from which on a picture counts as right


@TASKS.register("segmentation")
class Segmentation(Task):
    """The class of every pixel."""

    kind: ClassVar[str] = "segmentation"
    pretrained: ClassVar[str] = f"{KEY}.pretrained"
    validates_as_published: ClassVar[bool] = False  # at one size; published is each image's own

    def __init__(self, options: NoOptions, *, recipe: Recipe):
        super().__init__(recipe)
        self.labels: Labels | None = None
        self._trains = False
        asked = recipe.evaluation.segmentation
        self._passes = Passes(asked.scales, asked.flip, asked.sliding_window, asked.sliding_stride)

    def check(self) -> None:
        """A network must be named; images of different sizes cannot share a batch."""
        recipe, asked = self.recipe, self.recipe.evaluation.segmentation
        if not recipe.model.segmentation.name:
            raise UserError(
                f"{KEY}.name: dataset.category is segmentation, so a network is needed; set it to "
                "encoder_decoder"
            )
        if recipe.image_augmentation.center_crop.enable:
            raise UserError(
                "image_augmentation.center_crop: segmentation is evaluated on whole images; switch "
                "it off"
            )
        if not asked.resize_input_images_fixed_size and recipe.dataset.eval_batch_size0 != 1:
            raise UserError(
                "dataset.eval_batch_size0: images keep their aspect ratio in evaluation, so they "
                "cannot share a batch; set it to 1, or evaluation.segmentation."
                "resize_input_images_fixed_size to true"
            )

    def build_source(self, split: str) -> Source:
        """Images and masks; all splits have the same classes, as many as the model."""
        root, known_as = self.split_root(split)
        dataset = SEGMENTATION_DATASETS.build(self.recipe.dataset, root=root, split=known_as)
        self._check_labels(dataset.labels, known_as)
        section = self.recipe.image_augmentation
        training = split == "train"
        self._trains |= training
        if training:
            transform: Any = SegmentationTrainingTransform(section)
        else:
            rule = self._size_rule("own") if split == "test" else SizeRule("fixed")
            transform = SegmentationEvaluationTransform(section, rule)
        return Source(dataset, transform=transform, collate=collate, replace_bad=training)

    def _size_rule(self, usual: Literal["short_side", "own"]) -> SizeRule:
        """What stand-alone evaluation asks for; `usual` where it asks for nothing."""
        asked = self.recipe.evaluation.segmentation
        if asked.resize_input_images_fixed_size:
            return SizeRule("fixed")
        stride = self.recipe.model.segmentation.output_stride or 32
        return SizeRule("short_side" if asked.resize_input_images else usual, stride)

    def _check_labels(self, labels: Labels, split: str) -> None:
        asked, found = self.recipe.model.segmentation.n_classes, len(labels.names)
        if asked is not None and asked != found:
            raise UserError(
                f"{KEY}.n_classes: {asked} in the recipe, but dataset.root_{split} has {found} "
                f"classes; set it to {found}, or to null to count them"
            )
        if self.labels is not None and self.labels != labels:
            raise UserError(
                f"dataset.root_{split}: its classes differ from those of the other split; both need "
                "the same"
            )
        self.labels, self.class_names = labels, labels.names

    def build_model(self) -> nn.Module:
        """The network of `model.segmentation`, with weights of the whole or the backbone."""
        section = self.recipe.model.segmentation
        classes = len(self.class_names) or section.n_classes
        if not classes:
            raise UserError(f"{KEY}.n_classes: not given, and there are no data to count")
        model = build_segmentor(self.recipe, classes, partial(load_backbone, self))
        if self._trains:
            self._check_pooling(model)
        if section.pretrained and not self.resumed:
            self.weights = load_pretrained(model, self, self.pretrained, section.pretrained)
        if self.labels is None:
            self._assume_labels(classes)
        return model

    def _assume_labels(self, classes: int) -> None:
        """Without data: those of the weights, else of the data set with so many, else numbers."""
        known = self.weights.metadata if self.weights else {}
        if len(known.get("classes", ())) == classes:
            self.restore(known)
            return
        numbers = Labels.of(tuple(map(str, range(classes))), range(classes))
        names, self.labels = KNOWN.get(classes, ("numbers", numbers))
        self.class_names = self.labels.names
        log.info("neither data nor weights name the %d classes: %s are taken", classes, names)

    def _check_pooling(self, model: Segmentor) -> None:
        """UserError where a norm could learn nothing from maps of one pixel, as the pooling gives."""
        if not getattr(getattr(model, "seg_head", None), "needs_two_images", False):
            return
        kinds = {type(module) for module in model.modules()}
        head, norm = self.recipe.model.segmentation.seg_head, self.recipe.model.normalization
        if nn.InstanceNorm2d in kinds:
            raise UserError(
                f"model.normalization.name: the pooling of {head} makes maps of one pixel, which "
                "instance_norm cannot normalise; choose another norm"
            )
        batch = self.recipe.dataset.train_batch_size0
        sampler = SAMPLERS.build(self.recipe.sampler, batch_size=batch)
        shared = norm.synchronised and int(os.environ.get("WORLD_SIZE", "1")) > 1
        if nn.BatchNorm2d in kinds and not shared and min(s.batch for s in sampler.sizes(0)) < 2:
            raise UserError(
                "dataset.train_batch_size0: with one image in a batch, the batch norm behind the "
                f"pooling of {head} has a single number to learn from; set it to 2 or more, or "
                f"{KEY}.freeze_batch_norm to true"
            )

    def build_loss(self, section: LossesSection) -> nn.Module:
        """The loss of `loss.segmentation`."""
        loss: nn.Module = SEGMENTATION_LOSSES.build(section.segmentation)
        return loss

    def lr_multipliers(self, model: nn.Module) -> dict[str, float]:
        """What stands around the backbone learns `lr_multiplier` times as fast as that."""
        factor = self.recipe.model.segmentation.lr_multiplier
        parts = [name for name, part in model.named_children() if [*part.parameters()]]
        around = {name: factor for name in parts if name != "encoder" and factor != 1}
        return super().lr_multipliers(model) | around

    def metadata(self) -> dict[str, Any]:
        """The classes, the value of each in mask files, and its colour."""
        labels = self.labels
        if labels is None:
            return super().metadata()
        values = {"mask_values": list(labels.raw), "ignored_values": list(labels.ignored)}
        return super().metadata() | values | {"colors": [list(color) for color in labels.colors]}

    def restore(self, metadata: Mapping[str, Any]) -> None:
        """Know the classes from the weights."""
        names, values, ignored = (
            tuple(metadata[key]) for key in ("classes", "mask_values", "ignored_values")
        )
        colors = tuple((r, g, b) for r, g, b in metadata["colors"])
        self.labels, self.class_names = Labels(names, values, ignored, colors), names

    def preprocessing(self) -> Preprocessing:
        """Normalisation as in all tasks; a resize to a fixed size."""
        base = self.base_size()
        resize = self.recipe.image_augmentation.resize
        size = evaluation_size(self.recipe.image_augmentation, base.height, base.width)
        return replace(super().preprocessing(), resize=size, interpolation=resize.interpolation)

    def infer(self, model: nn.Module, images: Tensor) -> SegmentationOutput:
        """One pass, or the mean of those that `evaluation.segmentation` asks for."""
        assert isinstance(model, Segmentor)
        return segment(model, images, self._passes)

    def postprocess(
        self, model: nn.Module, outputs: SegmentationOutput, batch: Batch
    ) -> list[Tensor]:
        """The classes of each image at its own size, uint8 [H, W]."""
        return [
            classes_of(outputs.low_res[place : place + 1], size)[0]
            for place, size in enumerate(batch.sizes)
        ]

    def reports(self, metrics: Mapping[str, Any], states: Sequence[Any]) -> tuple[Report, ...]:
        """Intersection over union per class and the confusion matrix, where `iou` is measured."""
        metric = metrics.get("iou")
        if not isinstance(metric, MeanIou):
            return ()
        return (metric.report([state["iou"] for state in states], self.class_names),)

    def asked_pictures(self) -> tuple[PictureKind, ...]:
        """Masks, colours and overlays, as many of them as are wanted."""
        return asked_kinds(self.recipe.evaluation.segmentation)

    def keeper(self, source: Source) -> Keep | None:
        """Writes masks, colours and overlays that `evaluation.segmentation` asks for."""
        assert self.labels is not None
        asked, folder = self.recipe.evaluation.segmentation, run_folder(self.recipe)
        if not self.asked_pictures():
            return None
        return EvaluatedPictures(asked, source.dataset, self.labels, folder)

    def findings(self, sources: Mapping[str, Source], folder: Path) -> Iterable[Finding]:
        """Masks and classes, ground truth as predictions, samples."""
        from engine.checks.segmentation import segmentation_findings  # which imports the tasks

        assert self.labels is not None
        return segmentation_findings(self, self.labels, sources, folder)

    @torch.no_grad()
    def predict(self, model: nn.Module, images: Sequence[npt.NDArray[np.uint8]]) -> list[Segmented]:
        """The classes of each image at its own size; images of different sizes go one by one."""
        assert self.labels is not None
        base = self.base_size()
        key = SampleKey(0, base.height, base.width, 0)
        rule = self._size_rule("short_side")  # as officially
        transform = SegmentationEvaluationTransform(self.recipe.image_augmentation, rule)
        device = next(model.parameters()).device
        found = []
        for image in images:
            size = (image.shape[0], image.shape[1])
            pixels = transform.resized(image, key)[None].to(device)
            outputs = self.infer(model, self.scale(pixels))
            classes = classes_of(outputs.low_res, size)[0].cpu().numpy()
            found.append(Segmented(classes, self.labels))
        return found

    def example(self, batch: Batch, predictions: Sequence[Tensor], place: int) -> Example:
        """What was found, over the image as the network saw it."""
        assert self.labels is not None
        image = batch.images[place].permute(1, 2, 0).cpu().numpy()
        truth, found = batch.targets["truth"][place], predictions[place]
        matrix = confusion(found, truth, len(self.class_names))
        share = float(matrix.trace() / matrix.sum().clamp_min(1))
        rows, columns = (
            np.arange(wanted) * given // wanted
            for wanted, given in zip(image.shape[:2], found.shape, strict=True)
        )
        small = Segmented(found.cpu().numpy()[rows[:, None], columns], self.labels)
        return Example(small.overlay(image), f"{share:.0%} of the pixels", share >= RIGHT)
