"""Image classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.errors import UserError
from config.registry import NoOptions
from cvnets.weights.preprocessing import Preprocessing
from data.kinds import CLASSIFICATION_DATASETS
from data.loader import Source, stack
from data.sample import Batch, SampleKey
from data.transforms.classification import (
    EvaluationTransform,
    TrainingTransform,
    evaluation_extents,
)
from data.transforms.mixing import Mixing
from engine.classifier import build_classifier
from engine.drawing import draw_caption
from engine.kinds import TASKS
from engine.pretrained import load_pretrained
from engine.recipe import Recipe
from engine.task import Example, Task
from engine.training_data import download, part_of
from loss_fn.kinds import CLASSIFICATION_LOSSES
from loss_fn.section import LossesSection


@dataclass(frozen=True)
class Classified:
    """The probability of every class by name, the likeliest first; they add up to 1."""

    probabilities: dict[str, float]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return next(iter(self.probabilities))

    def top(self) -> dict[str, float]:
        """The five likeliest classes."""
        return dict(islice(self.probabilities.items(), 5))

    def text(self, min_score: float) -> str:
        """The likeliest classes in one line, however sure they are: the first one is the answer."""
        return ", ".join(f"{name} {probability:.1%}" for name, probability in self.top().items())

    def rows(self, number: int, name: str) -> list[dict[str, Any]]:
        """One JSON object for the image called `name`."""
        label = self.label
        sure = self.probabilities[label]
        return [{"file_name": name, "label": label, "probability": sure, "top": self.top()}]

    def draw(self, image: npt.NDArray[np.uint8], min_score: float) -> npt.NDArray[np.uint8]:
        """A copy of the image, uint8 [H, W, 3] RGB, with the likeliest class written on it."""
        text = f"{self.label} {self.probabilities[self.label]:.0%}"
        return draw_caption(image, text, self.label)


@TASKS.register("classification")
class Classification(Task):
    """One label per image."""

    kind: ClassVar[str] = "classification"

    def __init__(self, options: NoOptions, *, recipe: Recipe):
        super().__init__(recipe)
        self._possible: tuple[int, ...] | None = None
        augment = recipe.image_augmentation
        self._mixing = Mixing(augment.mixup, augment.cutmix)

    def build_source(self, split: str) -> Source:
        """A folder per class; all splits must have the same classes, as many as the model."""
        section, training = self.recipe.dataset, split == "train"
        root, known_as = self.split_root(split)
        if section.download:
            download(section, root, known_as)
        dataset = CLASSIFICATION_DATASETS.build(section, root=root, split=known_as)
        self._check_classes(dataset.classes, known_as)
        if not training:
            self._possible = getattr(dataset, "possible", None)
        transform = TrainingTransform if training else EvaluationTransform
        return Source(
            dataset=part_of(dataset, section) if training else dataset,
            transform=transform(self.recipe.image_augmentation),
            collate=torch.tensor,
            replace_bad=training,
        )

    def _check_classes(self, classes: tuple[str, ...], split: str) -> None:
        asked = self.recipe.model.classification.n_classes
        if asked is not None and asked != len(classes):
            raise UserError(
                f"model.classification.n_classes: {asked} in the recipe, but dataset."
                f"root_{split} has {len(classes)} class folders; set it to {len(classes)} or leave it out"
            )
        if self.class_names and self.class_names != classes:
            differences = (
                ("lacks", set(self.class_names) - set(classes)),
                ("has in addition", set(classes) - set(self.class_names)),
            )
            texts = [
                f"{verb} {', '.join(sorted(names)[:5])}{', ...' if len(names) > 5 else ''}"
                for verb, names in differences
                if names
            ]
            raise UserError(
                f"dataset.root_{split}: its class folders differ from those of the other split: it "
                f"{' and '.join(texts)}; both need the same"
            )
        self.class_names = classes

    def build_model(self) -> nn.Module:
        """The network of `model.classification`, with its pretrained weights if any."""
        section = self.recipe.model.classification
        classes = len(self.class_names) or section.n_classes
        if not classes:
            raise UserError(
                "model.classification.n_classes: not given, and there are no data to count"
            )
        model = build_classifier(self.recipe.model, classes)
        if section.pretrained and not self.resumed:
            self.weights = load_pretrained(model, self, self.pretrained, section.pretrained)
        return model

    def preprocessing(self) -> Preprocessing:
        """Normalisation as in all tasks; resize and crop of the evaluation."""
        base = self.base_size()
        resize, crop = evaluation_extents(self.recipe.image_augmentation, base.height, base.width)
        return replace(
            super().preprocessing(),
            resize=resize,
            crop=crop,
            interpolation=self.recipe.image_augmentation.resize.interpolation,
        )

    def prepare(self, batch: Batch, *, training: bool) -> tuple[Tensor, Tensor]:
        """In training, images and labels are mixed as the recipe says."""
        images, labels = super().prepare(batch, training=training)
        if not training:
            return images, labels
        classes = self.recipe.model.classification.n_classes or len(self.class_names)
        return self._mixing(images, labels, classes)

    def build_loss(self, section: LossesSection) -> nn.Module:
        """The loss of `loss.classification`."""
        loss: nn.Module = CLASSIFICATION_LOSSES.build(section.classification)
        return loss

    def postprocess(self, model: nn.Module, outputs: Tensor, batch: Batch) -> Tensor:
        """The logits; those of classes that the data set rules out are minus infinity."""
        if self._possible is None:
            return outputs
        possible = torch.tensor(self._possible, device=outputs.device)
        ruled_out = torch.full_like(outputs, -torch.inf)
        return ruled_out.index_copy(1, possible, outputs.index_select(1, possible))

    def predict(
        self, model: nn.Module, images: Sequence[npt.NDArray[np.uint8]]
    ) -> list[Classified]:
        """The classes of the images as evaluation sees them: resized and cropped."""
        base = self.base_size()
        key = SampleKey(0, base.height, base.width, 0)
        transform = EvaluationTransform(self.recipe.image_augmentation)
        pixels = stack([transform(image, 0, key).image for image in images])
        device = next(model.parameters()).device
        probabilities = model(self.scale(pixels.to(device))).float().softmax(1).cpu()
        names = self.class_names or [str(index) for index in range(probabilities.shape[1])]
        return [
            Classified(
                {names[index]: float(row[index]) for index in row.argsort(descending=True).tolist()}
            )
            for row in probabilities
        ]

    def example(self, batch: Batch, predictions: Tensor, place: int) -> Example:
        """The image with its class and probability, and the right class if it is another."""
        probability = predictions[place].float().softmax(0)
        guess, label = int(probability.argmax()), int(batch.targets[place])
        title = f"{self.class_names[guess]} {float(probability[guess]):.0%}"
        title += "" if guess == label else f"\nis {self.class_names[label]}"
        pixels = batch.images[place].permute(1, 2, 0).cpu().numpy()
        return Example(pixels, title, guess == label)
