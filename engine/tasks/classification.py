"""Image classification."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.errors import UserError
from config.registry import NoOptions
from cvnets.weights.preprocessing import Preprocessing
from data.kinds import CLASSIFICATION_DATASETS, SAMPLERS
from data.loader import Source
from data.sample import Batch, SampleKey
from data.sampler.plan import Size
from data.transforms.classification import (
    EvaluationTransform,
    TrainingTransform,
    evaluation_extents,
)
from engine.classifier import build_classifier
from engine.kinds import TASKS
from engine.pretrained import PRETRAINED, load_pretrained
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


@TASKS.register("classification")
class Classification(Task):
    """One label per image."""

    def __init__(self, options: NoOptions, *, recipe: Recipe):
        super().__init__(recipe)

    def build_source(self, split: str) -> Source:
        """A folder per class; all splits must have the same classes, as many as the model."""
        data = self.recipe.dataset
        root = (
            data.root_test or data.root_val if split == "test" else getattr(data, f"root_{split}")
        )
        known_as = "val" if split == "test" and not data.root_test else split
        dataset = CLASSIFICATION_DATASETS.build(data, root=root, split=known_as)
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
            self.weights = load_pretrained(model, self, PRETRAINED, section.pretrained)
        return model

    def preprocessing(self) -> Preprocessing:
        """Normalisation as in all tasks; resize and crop of the evaluation."""
        base = self._base()
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

    def predict(self, model: nn.Module, image: npt.NDArray[np.uint8]) -> Classified:
        """The classes of the image as evaluation sees it: resized and cropped."""
        base = self._base()
        transform = EvaluationTransform(self.recipe.image_augmentation)
        sample = transform(image, 0, SampleKey(0, base.height, base.width, 0))
        device = next(model.parameters()).device
        probabilities = model(self.scale(sample.image[None].to(device)))[0].float().softmax(0)
        return Classified(
            {
                self.class_names[index]: float(probabilities[index])
                for index in probabilities.argsort(descending=True).tolist()
            }
        )

    def _base(self) -> Size:
        """The image size of evaluation."""
        section, batch = self.recipe.sampler, self.recipe.dataset.eval_batch_size0
        base: Size = SAMPLERS.build(section, batch_size=batch).base
        return base

    def example(self, batch: Batch, outputs: Tensor, place: int) -> Example:
        """The image with its class and probability, and the right class if it is another."""
        probability = outputs[place].float().softmax(0)
        guess, label = int(probability.argmax()), int(batch.targets[place])
        title = f"{self.class_names[guess]} {float(probability[guess]):.0%}"
        title += "" if guess == label else f"\nis {self.class_names[label]}"
        pixels = batch.images[place].permute(1, 2, 0).cpu().numpy()
        return Example(pixels, title, guess == label)
