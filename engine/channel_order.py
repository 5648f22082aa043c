"""Which channel order weights expect: some images are evaluated in both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.errors import UserError
from config.registry import NoOptions
from cvnets.weights.fit import Network
from cvnets.weights.load import fitted, open_weights
from cvnets.weights.preprocessing import Preprocessing, expected_of, recorded, sources_for
from data.datasets.classification.imagenet import ImageFolder
from data.sample import SampleKey
from data.transforms.classification import EvaluationTransform
from data.transforms.section import ImageAugmentationSection
from engine.pretrained import check_complete, network_of

BATCH = 16
CLEAR = 3.0  # standard errors between the two orders


@dataclass(frozen=True)
class Scores:
    """Of one channel order: cross-entropy of every image [N], and top-1 in percent."""

    losses: Tensor
    top1: float

    @property
    def loss(self) -> float:
        """The mean cross-entropy."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Verdict:
    """Scores of both orders; `order` is the one that fits, None if the difference is not clear."""

    images: int
    scores: dict[str, Scores]
    order: str | None


@dataclass(frozen=True)
class Checked:
    """What was found of a file: the network's name, the channel order that its metadata say (None
    without any), the scores, and the sources that it can have (model.weights_source)."""

    network: str
    said: str | None
    verdict: Verdict
    sources: tuple[str, ...]


def check_weights(
    weights: str, data: str, *, variant: str | None, images: int, size: int
) -> Checked:
    """Try weights on images of a folder with one sub-folder per class, in both channel orders.

    UserError for a file without a whole network, and for data of another number of classes.
    """
    file, _ = open_weights(weights)
    name, model = network_of(file, variant)
    state, report, dialect = fitted(file, Network.of(model))
    check_complete(report, weights)
    model.load_state_dict(state)
    dataset = ImageFolder(NoOptions(), root=data, split="test")
    classes = model.eval()(torch.zeros(1, 3, size, size)).shape[1]
    if len(dataset.classes) != classes:
        raise UserError(
            f"--data {data}: {len(dataset.classes)} class folders, but {weights} has {classes} "
            "classes; give a folder with those"
        )
    known = recorded(file.metadata)
    about = known or expected_of(model.family, dialect.library)
    transform = EvaluationTransform(ImageAugmentationSection())
    verdict = compare_orders(model, dataset, transform, images=images, size=size, about=about)
    sources = () if known else sources_for(model.family, dialect.library, verdict.order)
    return Checked(name, known.channel_order if known else None, verdict, sources)


def compare_orders(
    model: nn.Module,
    dataset: ImageFolder,
    transform: EvaluationTransform,
    *,
    images: int,
    size: int,
    about: Preprocessing | None = None,
) -> Verdict:
    """Evaluate `images` images of the data set, spread evenly, as RGB and as BGR.

    `model` maps [B, 3, H, W] to logits, with one class per folder; `about` says how its images are
    normalised, without it they are in [0, 1]. The order with the
    smaller loss fits if the mean difference is `CLEAR` standard errors from zero.
    """
    count = min(images, len(dataset))
    if count < 2:
        raise UserError(f"--images {images}: at least 2 are needed")
    chosen = [round(place * (len(dataset) - 1) / (count - 1)) for place in range(count)]
    plain = (about or Preprocessing()).turned("RGB")
    mean = torch.tensor(plain.mean or (0.0, 0.0, 0.0))[:, None, None]
    std = torch.tensor(plain.std or (1.0, 1.0, 1.0))[:, None, None]
    logits: dict[str, list[Tensor]] = {"RGB": [], "BGR": []}
    labels = []
    model.eval()
    with torch.inference_mode():
        for pixels, targets in _batches(dataset, transform, chosen, size):
            labels.append(targets)
            pixels = (pixels - mean) / std
            logits["RGB"].append(model(pixels))
            logits["BGR"].append(model(pixels.flip(1)))
    targets = torch.cat(labels)
    scores = {order: _scores(torch.cat(parts), targets) for order, parts in logits.items()}
    difference = (scores["BGR"].losses - scores["RGB"].losses).double()
    error = float(difference.std()) / math.sqrt(count)
    clear = abs(float(difference.mean())) > CLEAR * error
    better = "RGB" if difference.mean() > 0 else "BGR"
    return Verdict(count, scores, better if clear else None)


def _batches(
    dataset: ImageFolder, transform: EvaluationTransform, chosen: Sequence[int], size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(chosen), BATCH):
        samples = []
        for index in chosen[start : start + BATCH]:
            image, label = dataset.load(index)
            samples.append(transform(image, label, SampleKey(index, size, size, 0)))
        pixels = torch.stack([sample.image for sample in samples]).float().div_(255)
        yield pixels, torch.tensor([sample.target for sample in samples])


def _scores(logits: Tensor, targets: Tensor) -> Scores:
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    top1 = 100 * float((logits.argmax(1) == targets).double().mean())
    return Scores(losses, top1)
