"""The teacher of a distillation: its own section of the recipe, its own weights, never trained."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from config.errors import UserError
from cvnets.weights.preprocessing import Preprocessing
from engine.classifier import build_classifier
from engine.parts import cast
from engine.pretrained import check_complete, load_as_said
from engine.reading import TEACHER_WEIGHTS
from engine.task import Task

log = logging.getLogger(__name__)


class Teacher(nn.Module):
    """Logits of a frozen network for the images that the student gets.

    It stays in evaluation mode. `fed` is how those images are normalised, `expected` what the
    network was trained with; where the two differ the images are converted.
    """

    def __init__(self, network: nn.Module, *, fed: Preprocessing, expected: Preprocessing):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._change = _change(fed, expected)

    def train(self, mode: bool = True) -> Teacher:
        """Nothing changes: a teacher does not learn."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] as the student gets them -> logits [B, C]."""
        if self._change is not None:
            factor, shift = (images.new_tensor(v)[:, None, None] for v in self._change)
            images = images * factor + shift
        logits: Tensor = self.network(images)
        return logits


def build_teacher(task: Task) -> Teacher:
    """The network of `teacher.model` with its weights. UserError if they do not fit the task."""
    section = task.recipe.teacher.model
    path = section.classification.pretrained
    assert path is not None, "engine.reading refuses a recipe without"
    network = build_classifier(section, len(task.class_names))
    report = load_as_said(network, section, TEACHER_WEIGHTS, path)
    check_complete(report, TEACHER_WEIGHTS)
    names = report.metadata.get("classes") or list(task.class_names)
    if names != list(task.class_names):
        raise UserError(
            f"{TEACHER_WEIGHTS}: {path}: the teacher knows other classes than the data have"
        )
    log.info("teacher: %s", "\n".join(report.lines()))
    network = cast(network, task.recipe.common)
    return Teacher(network, fed=task.preprocessing(), expected=report.preprocessing)


def _change(
    fed: Preprocessing, expected: Preprocessing
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Factor and shift per channel from one normalisation to the other; None if they agree."""
    if expected.mean is None or expected.std is None or fed.mean is None or fed.std is None:
        return None
    if (fed.mean, fed.std) == (expected.mean, expected.std):
        return None
    factor = tuple(ours / theirs for ours, theirs in zip(fed.std, expected.std, strict=True))
    shift = tuple(
        (ours - theirs) / std
        for ours, theirs, std in zip(fed.mean, expected.mean, expected.std, strict=True)
    )
    return factor, shift
