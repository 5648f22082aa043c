"""The contract of a task: all that differs between classification, detection and segmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.errors import UserError
from cvnets.weights.fit import LoadReport
from cvnets.weights.preprocessing import Preprocessing
from data.kinds import SAMPLERS
from data.loader import Source
from data.sample import Batch
from data.sampler.plan import Size
from engine.checks.finding import Finding
from engine.image_files import PictureKind
from engine.layer_decay import layer_multipliers
from engine.recipe import Recipe
from loss_fn.section import LossesSection


@dataclass(frozen=True)
class Example:
    """One evaluated image for the pictures: uint8 [H, W, 3] RGB, what to write, whether it is right."""

    image: npt.NDArray[np.uint8]
    title: str
    right: bool


# Gets an evaluated batch and what `Task.postprocess` says of it.
Keep = Callable[[Batch, Any], None]


class Report(Protocol):
    """What an evaluation leaves besides numbers: tables and pictures."""

    def lines(self) -> list[str]:
        """The gist, for the terminal."""
        ...

    def write(self, folder: Path) -> None:
        """Write all of it below `folder`, which exists."""
        ...


class Task(ABC):
    """Built once per run from the recipe. `class_names` may be empty where there are no classes.

    `kind`: what it gives to metrics; "" fits all of them. `pretrained`: the key of a recipe that
    names the weights of the whole network. `validates_as_published`: whether the validation of
    training measures what published figures are of. `weights`: the report on the pretrained weights
    that `build_model` has loaded, if any. `resumed`: a training state will replace all weights, so
    there is nothing to load. `trains`: what is built will be trained, so `finetune_pretrained_model` counts.
    """

    kind: ClassVar[str] = ""
    pretrained: ClassVar[str] = "model.classification.pretrained"
    validates_as_published: ClassVar[bool] = True

    class_names: tuple[str, ...] = ()
    weights: LoadReport | None = None
    resumed: bool = False
    trains: bool = False

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    @abstractmethod
    def build_source(self, split: str) -> Source:
        """The data of "train", "val" or "test". UserError if they do not fit the recipe."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network, initialised; called after `build_source`, so the classes are known."""

    @abstractmethod
    def build_loss(self, section: LossesSection) -> nn.Module:
        """The task's loss of the recipe's section `loss`, or of one of several that are added up.

        `loss(images, outputs, targets) -> LossOutput`: the mean over its micro-batch.
        """

    def check(self) -> None:  # noqa: B027 - nothing to check is the usual case
        """Look at the recipe before any data is read; UserError for what cannot work."""

    def split_root(self, split: str) -> tuple[str | None, str]:
        """The folder of a split, and the split it is known as: without a test split, validation."""
        data = self.recipe.dataset
        if split == "test" and data.root_test is None:
            split = "val"
        root: str | None = getattr(data, f"root_{split}")
        return root, split

    def base_size(self) -> Size:
        """The image size of evaluation, before the transforms of the recipe say otherwise."""
        section, batch = self.recipe.sampler, self.recipe.dataset.eval_batch_size0
        base: Size = SAMPLERS.build(section, batch_size=batch).base
        return base

    def metadata(self) -> dict[str, Any]:
        """What the weights carry of the data, JSON types; `restore` reads it."""
        return {"classes": list(self.class_names)}

    def restore(self, metadata: Mapping[str, Any]) -> None:
        """Know the classes from the weights, where there are no data."""
        self.class_names = tuple(metadata["classes"])

    def preprocessing(self) -> Preprocessing:
        """What the recipe does to an image in evaluation; it travels with the weights."""
        norm = self.recipe.image_augmentation.to_tensor.mean_std_normalization
        return Preprocessing(mean=norm.mean, std=norm.std) if norm.enable else Preprocessing()

    def prepare(self, batch: Batch, *, training: bool) -> tuple[Tensor, Any]:
        """Images for the network (float [B, 3, H, W], RGB in [0, 1] unless normalised), targets.

        Runs on the device. In training it may mix images; draws come from torch's generators,
        which are seeded by (run seed, step, micro-batch).
        """
        return self.scale(batch.images), batch.targets

    def scale(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float in [0, 1], minus mean and over deviation if asked for."""
        common = self.recipe.common
        dtype = torch.float64 if common.parameter_dtype == "float64" else torch.float32
        order = torch.channels_last if common.channels_last else torch.contiguous_format
        images = images.to(dtype=dtype, memory_format=order).div_(255)
        norm = self.recipe.image_augmentation.to_tensor.mean_std_normalization
        if norm.enable:
            mean = images.new_tensor(norm.mean)[:, None, None]
            images = images.sub_(mean).div_(images.new_tensor(norm.std)[:, None, None])
        return images

    def infer(self, model: nn.Module, images: Tensor) -> Any:
        """Outputs of the network in evaluation, for the loss and `postprocess`."""
        return model(images)

    def postprocess(self, model: nn.Module, outputs: Any, batch: Batch) -> Any:
        """What an evaluated batch's outputs mean; metrics and pictures get it."""
        return outputs

    def reports(self, metrics: Mapping[str, Any], states: Sequence[Any]) -> tuple[Report, ...]:
        """Tables and pictures of an evaluation, from the metrics by name and all ranks' states.

        Of every metric that has a `report`, unless a task says otherwise.
        """
        return tuple(
            metric.report([state[name] for state in states], self.class_names)
            for name, metric in metrics.items()
            if hasattr(metric, "report")
        )

    def keeper(self, source: Source) -> Keep | None:
        """What writes the files of single images that a stand-alone evaluation asks for, if any.

        Called by all ranks before any of them evaluates; UserError if a file is there already.
        """
        return None

    def findings(self, sources: Mapping[str, Source], folder: Path) -> Iterable[Finding]:
        """What `cvnets check` finds besides the number of images and classes; nothing is trained.

        `sources`: the splits by name, without those that cannot be opened. Pictures go to `folder`.
        """
        return ()

    def predict(self, model: nn.Module, images: Sequence[npt.NDArray[np.uint8]]) -> list[Any]:
        """What `model` says of images, each uint8 [H, W, 3] RGB of any size; one batch."""
        raise UserError(f"the task {type(self).__name__} makes no predictions of single images")

    def asked_pictures(self) -> tuple[PictureKind, ...]:
        """The pictures of a predicted image that `evaluation.<task>` asks for: what was found, drawn
        on it. All that the network reports is drawn: its own options set the limit."""
        folder = f"{self.kind}_results"
        return (PictureKind(folder, ".jpg", lambda found, image: found.draw(image, 0.0)),)

    def lr_multipliers(self, model: nn.Module) -> dict[str, float]:
        """Names of parts of the model -> learning rate over that of the rest."""
        return layer_multipliers(self.recipe.model.classification, model)

    def example(self, batch: Batch, predictions: Any, place: int) -> Example | None:
        """Image `place` of an evaluated batch as a picture; None if the task draws none."""
        return None
