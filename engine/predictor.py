"""Predictions of a trained network, one image at a time, for Python users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from config.errors import UserError
from data.images import read_image
from engine.task import Task

Image = str | Path | npt.NDArray[np.uint8]


class Predictor:
    """A network with all that its checkpoint says of its classes and its images."""

    def __init__(self, task: Task, model: nn.Module):
        self.task = task
        self.model = model.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes by index."""
        return self.task.class_names

    def predict(self, image: Image) -> Any:
        """What the network says of an image: a path, or RGB pixels as uint8 [H, W, 3] (or PIL's).

        Classification gives a `Classified`, detection a `Detected`, segmentation a `Segmented`.
        UserError for a file that cannot be read, or for pixels of another kind.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Any]:
        """The same of several images, which may differ in size: a batch, as far as the task can."""
        pixels = [_pixels(image) for image in images]
        with torch.inference_mode():
            return self.task.predict(self.model, pixels) if pixels else []


def _pixels(image: Image) -> npt.NDArray[np.uint8]:
    pixels = read_image(image) if isinstance(image, str | Path) else np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        kind = f"{pixels.dtype} {list(pixels.shape)}"
        raise UserError(f"predict: RGB pixels as uint8 [H, W, 3] are expected, not {kind}")
    return pixels
