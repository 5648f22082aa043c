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
from engine.classifier import build_classifier
from engine.drawing import draw_caption
from engine.kinds import TASKS
from engine.pretrained import load_pretrained
from engine.recipe import Recipe
from engine.task import Example, Task
from loss_fn.kinds import CLASSIFICATION_LOSSES


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

    def build_source(self, split: str) -> Source:
        """A folder per class; all splits must have the same classes, as many as the model."""
        root, known_as = self.split_root(split)
        dataset = CLASSIFICATION_DATASETS.build(self.recipe.dataset, root=root, split=known_as)
        self._check_classes(dataset.classes, known_as)
        training = split == "train"
        transform = TrainingTransform if training else EvaluationTransform
        return Source(
            dataset=dataset,
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

    def build_loss(self) -> nn.Module:
        """The loss of `loss.classification`."""
        loss: nn.Module = CLASSIFICATION_LOSSES.build(self.recipe.loss.classification)
        return loss

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
