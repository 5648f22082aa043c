"""Load weights from anywhere into a network, and say what was loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from config.errors import UserError, near
from cvnets.weights.dialects import Dialect, detect
from cvnets.weights.fetch import fetch
from cvnets.weights.files import State, WeightsFile, read_weights
from cvnets.weights.fit import LoadReport, Network, fit
from cvnets.weights.preprocessing import (
    Preprocessing,
    SourceName,
    by_library,
    expected_of,
    recorded,
    source_of,
    swap_channels,
)
from cvnets.weights.scopes import matches, patterns, renamed
from cvnets.weights.zoo import NamedWeights, find, find_address, named_weights

HUB_FILE = "model.safetensors"
BACKBONE = "encoder."  # the name of the backbone in detection and segmentation networks


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    exclude: str | Sequence[str] = (),
    ignore_missing: str | Sequence[str] = (),
    rename: Iterable[Sequence[str]] = (),
    source: SourceName = "auto",
    ema: bool = False,
) -> LoadReport:
    """Load the weights of a file into `model`, all of them except where a pattern allows less.

    `path`: a .pt, .pth or .safetensors file, an address, or named weights (docs/weights.md).

    Names of ml-cvnets, MobileViTv3, timm, transformers (`hf`) and torchvision are recognised, a
    detection or segmentation file gives its backbone, and a first layer that expects BGR images is
    turned to RGB. `source` says where a file comes from whose names leave it open; `ema` takes the
    averaged weights of a training checkpoint.

    Patterns are regular expressions matched from the start of a name, in a list or separated by
    commas. `exclude`: entries of the file to drop (by their names in the file, or ours), which the
    model may then lack; `rename`: (pattern, replacement) pairs, applied in order to the names in
    the file; `ignore_missing`: entries of the model that the file may lack. A head of another
    number of classes starts anew. UserError, with the model untouched, if anything else does not
    match in name or shape, or if less than 95 % of the backbone would be loaded.
    """
    file, named = open_weights(path, ema=ema)
    network = Network.of(model)
    state, report, dialect = fitted(
        file, network, exclude=exclude, ignore_missing=ignore_missing, rename=rename
    )
    about = preprocessing_of(file, named, network, dialect, source)
    if about.channel_order == "BGR":
        swap_channels(state)
    model.load_state_dict(state, strict=False)
    return replace(
        report,
        preprocessing=about.turned("RGB"),
        was_bgr=about.channel_order == "BGR",
        metadata=file.metadata,
    )


def open_weights(
    given: str | Path, *, ema: bool = False
) -> tuple[WeightsFile, NamedWeights | None]:
    """The file at a path or an address, or of named weights, which are fetched where needed.

    The second value is its row in the table of named weights, if there is one. UserError for what
    cannot be had or read.
    """
    if not isinstance(given, str | Path):
        raise UserError(
            f"weights are given as a path, an address or a name, not as {type(given).__name__}"
        )
    text = str(given)
    if "://" in text:
        return read_weights(fetch(text), ema=ema), find_address(text)
    path = Path(text).expanduser()
    if text in named_weights() and not path.is_file():
        return read_weights(fetch(text), ema=ema), find(text)
    if (path / HUB_FILE).is_file():  # a folder as transformers writes it
        path = path / HUB_FILE
    if not path.exists() and (names := near(text, named_weights())):
        raise UserError(
            f"{text}: no such file, and no weights of this name - did you mean {names[0]}?"
        )
    return read_weights(path, ema=ema), None


def fitted(
    file: WeightsFile,
    network: Network,
    *,
    exclude: str | Sequence[str] = (),
    ignore_missing: str | Sequence[str] = (),
    rename: Iterable[Sequence[str]] = (),
) -> tuple[State, LoadReport, Dialect]:
    """What of a file `network` takes, under our names; the channel order is that of the file.

    Arguments and errors: see `load_weights`.
    """
    drop = patterns(exclude, "model.resume_exclude_scopes")
    optional = drop + patterns(ignore_missing, "model.ignore_missing_scopes")
    named = {key: value for key, value in file.state.items() if not matches(drop, key)}
    named = renamed(named, rename, file.path)
    inner = _backbone(named, network)
    other_parts = () if inner is None else [key for key in named if not key.startswith(BACKBONE)]
    named = named if inner is None else inner
    dialect = detect(network.family, network.state, named)
    state = dialect.read(named, network.state)
    without = [key for key in state if network.goes_without(key)]
    kept = {k: v for k, v in state.items() if not matches(drop, k) and k not in without}

    def may_be_missing(key: str) -> bool:
        return any(matches(drop, name) for name in dialect.names(key)) or matches(optional, key)

    of_encoder = inner is not None
    report = fit(kept, network, dialect, may_be_missing, path=file.path, backbone_only=of_encoder)
    dropped = [key for key in file.state if matches(drop, key) and key not in network.state]
    report = replace(
        report,
        ignored=(*dropped, *other_parts, *without),
        part=file.part,
        other_parts=file.other_parts,
    )
    return {key: kept[key] for key in report.loaded}, report, dialect


def _backbone(state: State, network: Network) -> State | None:
    """The backbone of a detection or segmentation file; None if the file is none for `network`."""
    inner = {
        key.removeprefix(BACKBONE): value
        for key, value in state.items()
        if key.startswith(BACKBONE)
    }
    hits = [
        detect(network.family, network.state, names).hits(network.state, names)
        for names in (state, inner)
    ]
    return inner if hits[1] > hits[0] else None


def preprocessing_of(
    file: WeightsFile,
    named: NamedWeights | None,
    network: Network,
    dialect: Dialect,
    asked: SourceName,
) -> Preprocessing:
    """What the weights in a file expect of their images. UserError if nothing tells."""
    if (ours := recorded(file.metadata)) is not None:
        return ours
    if named is not None:
        source = expected_of(network.family, asked)
        if asked != "auto" and named.preprocessing.channel_order != source.channel_order:
            raise UserError(
                f"{file.path}: was published for {named.preprocessing.channel_order} images, other "
                f"than weights of {asked}; set model.weights_source to auto"
            )
        return named.preprocessing
    if network.preprocessing is not None:
        return by_library(network.preprocessing())
    about = expected_of(
        network.family, source_of(network.family, dialect.library, asked, file.path)
    )
    flips = _flips(Path(file.path)) if dialect.library == "hf" and asked == "auto" else None
    return about if flips is None else replace(about, channel_order="BGR" if flips else "RGB")


def _flips(weights: Path) -> bool | None:
    """Whether the image processor that transformers keeps beside weights flips the channels."""
    beside = weights.with_name("preprocessor_config.json")
    if not beside.is_file():
        return None
    flips = json.loads(beside.read_text(encoding="utf-8")).get("do_flip_channel_order")
    return flips if isinstance(flips, bool) else None
