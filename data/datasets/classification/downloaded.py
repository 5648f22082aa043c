"""Small public data sets, found and downloaded by torchvision."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torchvision import datasets

from config.errors import UserError
from config.registry import NoOptions
from data.images import ImageError
from data.kinds import CLASSIFICATION_DATASETS


class Downloaded:
    """A data set of torchvision, whose parts stand in one folder `root`.

    `parts`: what torchvision is told of training, and of validation and test. `labels` int64 [N].
    """

    title: ClassVar[str]
    source: ClassVar[type]
    parts: ClassVar[tuple[dict[str, Any], dict[str, Any]]]

    def __init__(self, options: NoOptions, *, root: str | None, split: str):
        key = f"dataset.root_{split}"
        self._data = self._open(root, key, self.parts[split != "train"], download=False)
        self.name = f"{root}: {self.title}, {split}"
        self.classes: tuple[str, ...] = tuple(self._data.classes)
        self.labels = np.array(self._labels(), dtype=np.int64)

    @classmethod
    def download(cls, root: str | None, split: str) -> None:
        """Fetch what is not in the folder yet, and check it against torchvision's checksums."""
        cls._open(root, f"dataset.root_{split}", cls.parts[0], download=True)

    @classmethod
    def _open(cls, root: str | None, key: str, part: dict[str, Any], *, download: bool) -> Any:
        if not root:
            raise UserError(f"{key}: no folder is given; set {key}=FOLDER that holds {cls.title}")
        try:
            return cls.source(root, **part, download=download)
        except (RuntimeError, OSError) as error:  # not there, or no network
            reason = " ".join(str(error).split())
            if download:
                text = f"cannot download {cls.title} to {root} ({reason}); try again with a network"
            else:
                text = f"no {cls.title} in {root}; set dataset.download=true to fetch it"
            raise UserError(f"{key}: {text}") from None

    def _labels(self) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image, uint8 [H, W, 3] RGB, and its class index."""
        try:
            image, label = self._data[index]
        except OSError as error:
            raise ImageError(f"{self.describe(index)}: cannot read the image ({error})") from None
        return np.array(image), int(label)

    def describe(self, index: int) -> str:
        """The data set and the number of the image."""
        return f"{self.name}, image {index}"


@CLASSIFICATION_DATASETS.register("cifar10")
class Cifar10(Downloaded):
    """CIFAR-10: 60,000 images of 32x32 pixels, 10 classes."""

    title, source = "CIFAR-10", datasets.CIFAR10
    parts = ({"train": True}, {"train": False})

    def _labels(self) -> Any:
        return self._data.targets


@CLASSIFICATION_DATASETS.register("cifar100")
class Cifar100(Cifar10):
    """CIFAR-100: 60,000 images of 32x32 pixels, 100 classes."""

    title, source = "CIFAR-100", datasets.CIFAR100


@CLASSIFICATION_DATASETS.register("oxford_iiit_pet")
class OxfordPets(Downloaded):
    """Oxford-IIIT Pet: 7,349 photographs of 37 breeds of cats and dogs (CVPR 2012)."""

    title, source = "Oxford-IIIT Pet", datasets.OxfordIIITPet
    parts = ({"split": "trainval"}, {"split": "test"})

    def _labels(self) -> Any:
        return self._data._labels  # its public face gives a label only with its image

    def describe(self, index: int) -> str:
        """The path of the image."""
        return str(self._data._images[index])
