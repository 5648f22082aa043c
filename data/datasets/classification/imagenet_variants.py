"""Other images of the classes of ImageNet-1k: its variants, which test what was trained on it.

Their labels are places among the 1000 classes, so that they fit a network with 1000 outputs:
classes are numbered in the order of their synset ids (Russakovsky et al., ImageNet Large Scale
Visual Recognition Challenge, IJCV 2015), as the sorted folders of ImageNet itself are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from config.errors import UserError, suggestion
from config.options import Options
from data.datasets.classification.imagenet import ImageFolder
from data.kinds import CLASSIFICATION_DATASETS


@cache
def synsets() -> tuple[str, ...]:
    """The 1000 synset ids of ImageNet-1k, sorted: the place of each is its class."""
    return tuple(Path(__file__).with_name("imagenet_synsets.txt").read_text().split())


class SomeClassesOptions(Options):
    """`dataset.imagenet_a`, `dataset.imagenet_r`: variants with 200 of the 1000 classes."""

    only_its_classes: bool = Field(
        False,
        description="in evaluation, the network chooses among the classes of the data instead of all "
        "1000, as the papers of ImageNet-A and -R do",
    )


class SynsetFolders(ImageFolder):
    """`root/<synset id>/*.jpg`, any of the 1000.

    UserError for a folder that is none of them.
    """

    def __init__(self, options: Options, *, root: str | None, split: str):
        super().__init__(options, root=root, split=split)
        if isinstance(options, SomeClassesOptions) and options.only_its_classes:
            self.possible: tuple[int, ...] = tuple(int(label) for label in np.unique(self.labels))

    def _numbered(self) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
        place = {synset: number for number, synset in enumerate(synsets())}
        for name in self.folders:
            if name not in place:
                raise UserError(
                    f"{self.key}: {self.root / name} is no class of ImageNet-1k, whose folders are "
                    f"synset ids like {synsets()[0]} - {suggestion(name, place)}"
                )
        return synsets(), np.array([place[name] for name in self.folders])


@CLASSIFICATION_DATASETS.register("imagenet_a", options=SomeClassesOptions)
class ImageNetA(SynsetFolders):
    """ImageNet-A: 7,500 natural images that networks get wrong, 200 classes (CVPR 2021)."""


@CLASSIFICATION_DATASETS.register("imagenet_r", options=SomeClassesOptions)
class ImageNetR(SynsetFolders):
    """ImageNet-R: 30,000 renditions in art and toys, 200 classes (ICCV 2021)."""


@CLASSIFICATION_DATASETS.register("imagenet_sketch")
class ImageNetSketch(SynsetFolders):
    """ImageNet-Sketch: 50,889 drawings, all 1000 classes (NeurIPS 2019)."""


class ImageNetV2Options(Options):
    """`dataset.imagenet_v2`."""

    split: Literal["matched-frequency", "threshold-0.7", "top-images"] = Field(
        "matched-frequency", description="which of the three new test sets"
    )


@CLASSIFICATION_DATASETS.register("imagenet_v2", options=ImageNetV2Options)
class ImageNetV2(ImageFolder):
    """ImageNetV2: 10,000 new test images (Recht et al., ICML 2019), folders 0 to 999.

    `root` is the unpacked folder, or the one that it stands in.
    """

    # the archives' own names of their folders
    unpacked: ClassVar[dict[str, str]] = {
        "matched-frequency": "imagenetv2-matched-frequency-format-val",
        "threshold-0.7": "imagenetv2-threshold0.7-format-val",
        "top-images": "imagenetv2-top-images-format-val",
    }

    def __init__(self, options: ImageNetV2Options, *, root: str | None, split: str):
        inside = Path(root or ".") / self.unpacked[options.split]
        super().__init__(options, root=str(inside) if inside.is_dir() else root, split=split)

    def _numbered(self) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
        known = {str(number) for number in range(len(synsets()))}
        for name in self.folders:
            if name not in known:
                expected = ", ".join(self.unpacked.values())
                raise UserError(
                    f"{self.key}: {self.root / name} is no folder of ImageNetV2; unpack one of its "
                    f"archives there ({expected}), whose folders are 0 to 999"
                )
        return synsets(), np.array([int(name) for name in self.folders])
