"""Named weights: the table of what was officially published (`zoo.yaml`), as typed records."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from config.errors import UserError, suggestion
from cvnets.weights.preprocessing import Preprocessing

ChannelOrder = Literal["RGB", "BGR"]
TABLE = Path(__file__).with_name("zoo.yaml")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expected(_Record):
    """A published figure: `metric` by its name in `stats.val`, `value` in percent, who says so."""

    metric: str
    value: float = Field(gt=0, lt=100)
    source: str


class NamedWeights(_Record):
    """One published file of weights, and the contract that it was trained under.

    `model` is a name for `cvnets.create_model`: the whole network, or the backbone below `head`.
    `n_classes` is the width of the output (with the background of detection and Pascal VOC).
    `url` is the address of the file; weights without one must be fetched by the user from the
    place that `manual` names. `preprocessing` is that of the release's own evaluation.
    """

    name: str
    model: str
    head: Literal["ssd", "deeplabv3", "pspnet"] | None
    task: Literal["classification", "detection", "segmentation"]
    dataset: str
    n_classes: int = Field(ge=2)
    release: str
    url: str | None = Field(pattern=r"^https://\S+\.pt$")
    manual: str | None
    licence: str
    preprocessing: Preprocessing
    expected: tuple[Expected, ...]
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    note: str


# --- the shape of zoo.yaml -----------------------------------------------------------------------


class _Dataset(_Record):
    task: str
    n_classes: int
    metric: str


class _Release(_Record):
    address: str | None = None
    manual: str | None = None
    licence: str
    channel_order: ChannelOrder | None = None


class _Row(_Record):
    file: str | None = None
    expected: float | dict[str, float] = Field(default_factory=dict)
    sha256: str | None = None
    note: str = ""


class _Images(_Record):
    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None


class _Group(_Record):
    name: str
    release: str
    channel_order: ChannelOrder | None = None
    dataset: str
    head: str | None = None
    folder: str | None = None
    preprocessing: _Images = _Images()
    weights: dict[str, _Row]


class _Table(_Record):
    sources: dict[str, str]
    datasets: dict[str, _Dataset]
    releases: dict[str, _Release]
    groups: list[_Group]

    def rows(self) -> Iterator[NamedWeights]:
        """One record per file."""
        for group in self.groups:
            for model, row in group.weights.items():
                yield self._record(group, model, row)

    def _record(self, group: _Group, model: str, row: _Row) -> NamedWeights:
        release, dataset = self.releases[group.release], self.datasets[group.dataset]
        parts = (release.address, group.folder, row.file)
        name = group.name.format(model=model)
        order = group.channel_order or release.channel_order
        if order is None:
            raise ValueError(f"{TABLE.name}: {name} needs a channel_order")
        if any(parts) != all(parts) or all(parts) == bool(release.manual):
            raise ValueError(
                f"{TABLE.name}: {name} needs address, folder and file, or manual alone"
            )
        return NamedWeights(
            name=name,
            model=model,
            head=group.head,
            dataset=group.dataset,
            task=dataset.task,
            n_classes=dataset.n_classes,
            release=group.release,
            url=None if release.manual else "/".join(map(str, parts)),
            manual=release.manual,
            licence=release.licence,
            preprocessing=Preprocessing(channel_order=order, **group.preprocessing.model_dump()),
            expected=tuple(self._expected(dataset.metric, row.expected)),
            sha256=row.sha256,
            note=row.note,
        )

    def _expected(self, metric: str, given: float | dict[str, float]) -> Iterator[Expected]:
        figures = given if isinstance(given, dict) else {"release": given}
        for source, value in figures.items():
            yield Expected(metric=metric, value=value, source=self.sources[source])


# --- asking it -----------------------------------------------------------------------------------


@functools.cache
def named_weights() -> Mapping[str, NamedWeights]:
    """All named weights by name, in the order of the table."""
    return read_table(TABLE.read_text(encoding="utf-8"))


def read_table(text: str) -> Mapping[str, NamedWeights]:
    """The records of a table like zoo.yaml. ValueError for unknown keys, names used twice and the like."""
    records: dict[str, NamedWeights] = {}
    for record in _Table.model_validate(yaml.safe_load(text)).rows():
        if record.name in records:
            raise ValueError(f"{TABLE.name}: two files are called {record.name}")
        records[record.name] = record
    return MappingProxyType(records)


def find(name: str) -> NamedWeights:
    """The weights of this name. UserError that names the near ones if there are none."""
    table = named_weights()
    if name not in table:
        raise UserError(f"no weights are called {name!r} - {suggestion(name, table)}")
    return table[name]


def find_address(url: str) -> NamedWeights | None:
    """The weights that are published at this address, if they are in the table."""
    return next((weights for weights in named_weights().values() if weights.url == url), None)
