"""Find out which network weights belong to, and write them as other libraries name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from config.errors import UserError, suggestion
from cvnets.api import create_model, list_models
from cvnets.models.classification import VARIANT_NAMES
from cvnets.models.encoder import ImageEncoder
from cvnets.weights.dialects import Dialect, detect, dialects_of
from cvnets.weights.files import State, WeightsFile
from cvnets.weights.fit import Network
from cvnets.weights.load import fitted, preprocessing_of
from cvnets.weights.preprocessing import SOURCES, SourceName, expected_of, swap_channels
from cvnets.weights.zoo import NamedWeights

SHARED = 0.1  # of a network's names; the sizes of a family share far more


@dataclass(frozen=True)
class Identified:
    """The variant that a file holds, and its number of classes (None without a classifier)."""

    variant: str
    num_classes: int | None

    def build(self) -> ImageEncoder:
        """The network with fresh weights; 1000 classes if the file has none."""
        return create_model(self.variant, n_classes=self.num_classes or 1000)


def identify(file: WeightsFile, variant: str | None = None) -> Identified:
    """Which of the named variants (or whether `variant`) the weights fit, by names and shapes.

    UserError if none does.
    """
    if variant is not None and variant not in list_models():
        raise UserError(f"no model is called {variant!r} - {suggestion(variant, list_models())}")
    for name in [variant] if variant else _candidates(file):
        network = _entries(name)
        try:
            dialect = fitted(file, network)[2]
        except UserError:
            if variant:
                raise  # what differs
        else:
            return Identified(name, _classes(file, network, dialect))
    raise UserError(
        f"{file.path}: fits none of the {len(list_models())} networks that have a name; give the "
        "one that it is nearest to (--model NAME) to see what differs"
    )


def _candidates(file: WeightsFile) -> Iterator[str]:
    """The variants of the families that share names with the file."""
    of_family = sorted(VARIANT_NAMES, key=lambda name: VARIANT_NAMES[name][0])
    for _, members in groupby(of_family, key=lambda name: VARIANT_NAMES[name][0]):
        first, *others = members
        network = _entries(first)
        dialect = detect(network.family, network.state, file.state)
        if dialect.hits(network.state, file.state) > SHARED * len(network.state):
            yield from (first, *others)


def _entries(variant: str) -> Network:
    """The entries of a variant, without values."""
    with torch.device("meta"):
        return Network.of(create_model(variant))


def _classes(file: WeightsFile, network: Network, dialect: Dialect) -> int | None:
    """Rows of the last entry of the head: its bias."""
    last = [key for key in network.state if network.in_head(key)][-1]
    (name,) = dialect.names(last)
    return len(file.state[name]) if name in file.state else None


def convert(
    file: WeightsFile,
    network: Network,
    target: str,
    *,
    source: SourceName = "auto",
    named: NamedWeights | None = None,
) -> tuple[State, dict[str, Any]]:
    """The weights in a file as `target` names them and expects its images, and their metadata.

    `network`: the one that the weights belong to, with their number of classes; `named`: their row
    in the table of named weights, if they are there. `target`: one of
    the family's sources, e.g. cvnets-v0.1, timm, hf. UserError for another one, and for weights
    that are not whole.
    """
    targets = SOURCES.get(network.family, {})
    if target not in targets:
        hint = suggestion(target, targets)
        raise UserError(f"--to {target}: there is no such form of these networks - {hint}")
    state, report, dialect = fitted(file, network)
    if report.reinitialised:
        first = report.reinitialised[0]
        raise UserError(
            f"{file.path}: {first.key} is missing: only whole networks can be converted"
        )
    about = preprocessing_of(file, named, network, dialect, source)
    order = expected_of(network.family, target).channel_order
    if about.channel_order != order:
        swap_channels(state)
    written = _dialect(network.family, target).write(state)
    metadata = {**file.metadata, "format": 2, "preprocessing": about.turned(order).as_json()}
    return written, metadata


def _dialect(family: str, target: str) -> Dialect:
    """The dialect of a library; official releases have our own names."""
    official, *others = dialects_of(family)
    return next((dialect for dialect in others if dialect.library == target), official)
