"""The classes found in one image: as a line, as COCO results, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from data.datasets.section import ImageDataset
from data.datasets.segmentation.labels import Labels, voc_palette
from data.images import read_image
from data.sample import Batch
from engine.drawing import blend, draw_legend
from engine.image_files import PictureKind, image_files, new_pictures
from engine.settings import SegmentationEvaluationOptions

SHOWN = 0.005  # least share of the pixels of a class that is named


@dataclass(frozen=True)
class Segmented:
    """The class of each pixel of one image: `classes` uint8 [H, W], numbers of `labels.names`.

    Masks of a data set have more numbers, where no class is.
    """

    classes: npt.NDArray[np.uint8]
    labels: Labels

    @property
    def mask(self) -> npt.NDArray[np.uint8]:
        """uint8 [H, W] with the values that the masks of the data set have."""
        return self.labels.raw_of(self.classes)

    @property
    def colored(self) -> npt.NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB: each pixel in the colour of its class.

        Where there is none, it is that of the ignored value in VOC's palette.
        """
        everything = np.arange(256, dtype=np.uint8)
        table = voc_palette()[self.labels.raw_of(everything)]
        table[: len(self.labels)] = self.labels.colors
        return table[self.classes]

    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class that occurs, the largest first."""
        names = self.labels.names
        return {names[place]: share for place, share in self._by_size()}

    def _by_size(self) -> list[tuple[int, float]]:
        """Classes that occur and their shares of the pixels, the largest first."""
        counts = np.bincount(self.classes.ravel(), minlength=256)[: len(self.labels)]
        order = np.argsort(-counts, kind="stable").tolist()
        return [
            (place, float(counts[place] / self.classes.size)) for place in order if counts[place]
        ]

    def text(self, min_score: float) -> str:
        """The classes and their shares of the image in one line, the largest first."""
        shares = self.shares().items()
        return ", ".join(f"{name} {share:.1%}" for name, share in shares if share >= SHOWN)

    def rows(self, number: int, name: str) -> list[dict[str, Any]]:
        """One segment of the COCO result format for each class: a run-length encoded mask.

        `category_id` is the value of the class in the masks of the data set.
        """
        from pycocotools import mask as encoder

        rows = []
        for place in np.unique(self.classes).tolist():
            found = encoder.encode(np.asfortranarray(self.classes == place, np.uint8))
            encoded = {"size": found["size"], "counts": found["counts"].decode()}
            row = {"image_id": number, "category_id": self.labels.raw[place]}
            rows.append(row | {"segmentation": encoded, "file_name": name})
        return rows

    def overlay(
        self, image: npt.NDArray[np.uint8], image_weight: float = 0.5
    ) -> npt.NDArray[np.uint8]:
        """The image, uint8 [H, W, 3] RGB, under the colours of the classes.

        `image_weight` in [0, 1] is the share of the image: 0 shows the colours only.
        """
        return blend(image, self.colored, image_weight)

    def draw(self, image: npt.NDArray[np.uint8], min_score: float) -> npt.NDArray[np.uint8]:
        """A copy of the image, uint8 [H, W, 3] RGB, under the colours, with the classes' names."""
        labels = self.labels
        rows = [
            (f"{labels.names[place]} {share:.0%}", labels.colors[place])
            for place, share in self._by_size()
            if share >= SHOWN
        ]
        return draw_legend(self.overlay(image), rows)


def asked_kinds(asked: SegmentationEvaluationOptions) -> tuple[PictureKind, ...]:
    """The pictures of a `Segmented` that `evaluation.segmentation` asks for."""
    weight = asked.overlay_mask_weight
    kinds: tuple[tuple[bool, PictureKind], ...] = (
        (
            asked.save_masks,
            PictureKind("predictions_no_cmap", ".png", lambda found, image: found.mask),
        ),
        (
            asked.apply_color_map,
            PictureKind("predictions_cmap", ".png", lambda found, image: found.colored),
        ),
        (
            asked.save_overlay_rgb_pred,
            PictureKind(
                "predictions_overlay", ".jpg", lambda found, image: found.overlay(image, weight)
            ),
        ),
        (
            asked.save_overlay_rgb_pred,
            PictureKind("rgb_images", ".jpg", lambda found, image: image),
        ),
    )
    return tuple(kind for wanted, kind in kinds if wanted)


class EvaluatedPictures:
    """Writes what `evaluation.segmentation` asks for of every evaluated image, in the run folder.

    Made before the evaluation: UserError if a picture is there already.
    """

    def __init__(
        self,
        asked: SegmentationEvaluationOptions,
        dataset: ImageDataset,
        labels: Labels,
        folder: Path,
    ):
        self._labels = labels
        self._files = image_files([dataset.describe(index) for index in range(len(dataset))])
        self._found = new_pictures(asked_kinds(asked), self._files, folder)
        truth = PictureKind("gt_cmap", ".png", lambda found, image: found.colored)
        self._truth = new_pictures([truth] if asked.apply_color_map else [], self._files, folder)

    def __call__(self, batch: Batch, predictions: Sequence[Tensor]) -> None:
        """Write those of a batch: `predictions` uint8 [H, W] of each image, at its own size."""
        for place, index in enumerate(batch.ids):
            file = self._files[index]
            image = read_image(file.path)
            for pictures, classes in (
                (self._found, predictions[place]),
                (self._truth, batch.targets["truth"][place]),
            ):
                segmented = Segmented(classes.cpu().numpy(), self._labels)
                for each in pictures:
                    each.write(file.name, segmented, image)
