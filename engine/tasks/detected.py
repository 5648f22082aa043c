"""The objects found in one image: as a line, as COCO results, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.drawing import draw_boxes


@dataclass(frozen=True)
class Detected:
    """The objects found in one image, the surest first.

    `boxes` float [n, 4] (x1, y1, x2, y2) in pixels of the image; `scores` float [n] in (0, 1];
    `labels` the names of their classes; `category_ids` int [n], those of the data set.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    labels: tuple[str, ...]
    category_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def at_least(self, score: float) -> Detected:
        """Those of this score or more."""
        kept = self.scores >= score
        labels = tuple(label for label, keep in zip(self.labels, kept, strict=True) if keep)
        return Detected(self.boxes[kept], self.scores[kept], labels, self.category_ids[kept])

    def text(self, min_score: float) -> str:
        """`5 dog (95%, 80%, 61%, ...), 1 cat (90%)` of those of this score or more, in one line."""
        scores: dict[str, list[str]] = {}
        found = self.at_least(min_score)
        for label, score in zip(found.labels, found.scores, strict=True):
            scores.setdefault(label, []).append(f"{score:.0%}")
        texts = [
            f"{len(each)} {label} ({', '.join(each[:3])}{', ...' if len(each) > 3 else ''})"
            for label, each in scores.items()
        ]
        return ", ".join(texts) or "nothing found"

    def rows(self, number: int, name: str) -> list[dict[str, Any]]:
        """One object of the COCO result format each: all of them, boxes (x, y, w, h) in pixels."""
        sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        boxes = np.concatenate([self.boxes[:, :2], sizes], axis=1)
        columns = (self.category_ids.tolist(), boxes.tolist(), self.scores.tolist())
        return [
            {
                "image_id": number,
                "category_id": category,
                "bbox": box,
                "score": score,
                "file_name": name,
            }
            for category, box, score in zip(*columns, strict=True)
        ]

    def draw(self, image: npt.NDArray[np.uint8], min_score: float) -> npt.NDArray[np.uint8]:
        """A copy of the image, uint8 [H, W, 3] RGB, with those of this score or more."""
        found = self.at_least(min_score)
        return draw_boxes(image, found.boxes, found.labels, found.scores)
