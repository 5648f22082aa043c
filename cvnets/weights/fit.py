"""Whether weights fit a network: what is loaded, what starts anew, what is a mistake."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from config.errors import UserError
from cvnets.models.dense import DenseModel
from cvnets.models.encoder import ImageEncoder
from cvnets.weights.dialects import OFFICIAL, Dialect
from cvnets.weights.files import State
from cvnets.weights.preprocessing import Preprocessing

ENOUGH = (
    0.95  # of the elements outside the head: with less it would be a random start by another name
)


@dataclass(frozen=True)
class Network:
    """What loading has to know of a network: its entries, and what of it may start anew.

    `head`: the parts that depend on the number of classes; `behind`: further parts that files of
    detection and segmentation networks lack; `dispensable`: parts of files that the network may
    lack. All are names of modules. `preprocessing` says what
    the library of a foreign network writes of its own weights.
    """

    state: Mapping[str, Tensor]
    family: str = ""
    head: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    dispensable: tuple[str, ...] = ()
    preprocessing: Callable[[], Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, model: nn.Module) -> Network:
        """Of an `ImageEncoder` its class attributes; of a `DenseModel` its own and the family of
        its backbone; the head of others is their last linear layer."""
        state = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
        if isinstance(model, DenseModel):
            return cls(
                state,
                family=model.encoder.family,
                head=model.head,
                dispensable=model.dispensable,
            )
        if not isinstance(model, ImageEncoder):
            layers = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
            return cls(state, head=tuple(layers[-1:]))
        return cls(
            state,
            family=model.family,
            head=model.head,
            behind=model.behind,
            preprocessing=getattr(model, "preprocessing", None),
        )

    def in_head(self, key: str) -> bool:
        """Whether an entry belongs to the head."""
        return _is_in(key, self.head)

    def goes_without(self, key: str) -> bool:
        """Whether an entry of a file is of a part that this network lacks and does not need."""
        return key not in self.state and _is_in(key, self.dispensable)

    def share_of_backbone(self, keys: Collection[str], without: tuple[str, ...] = ()) -> float:
        """Elements of the backbone, apart from `without`, that are among `keys`; 0 .. 1 of them."""
        apart = (*self.head, *without)
        sizes = {k: v.numel() for k, v in self.state.items() if not _is_in(k, apart)}
        return sum(sizes[key] for key in sizes if key in keys) / max(1, sum(sizes.values()))


def _is_in(key: str, parts: Iterable[str]) -> bool:
    return any(key.startswith(f"{part}.") for part in parts)


@dataclass(frozen=True)
class Reinitialised:
    """An entry of the network that keeps its fresh value; its shape in the file (if there)."""

    key: str
    shape: tuple[int, ...]
    file_shape: tuple[int, ...] | None
    why: str


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did: entries of the network, and unused ones of the file.

    `share`: of the elements outside the head that were loaded, 0 .. 1. `part`, `other_parts`: see
    `WeightsFile`. `preprocessing` is that of the network now, which always sees RGB; `metadata` is
    what we wrote into the file.
    """

    path: str
    loaded: tuple[str, ...]
    reinitialised: tuple[Reinitialised, ...]
    share: float
    library: str = OFFICIAL
    ignored: tuple[str, ...] = ()
    part: str = ""
    other_parts: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    was_bgr: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report for people: one table."""
        total = len(self.loaded) + len(self.reinitialised)
        origin = [f"{self.part} of a training checkpoint"] if self.part else []
        origin += [f"names of {self.library}"] if self.library != OFFICIAL else []
        origin += ["first layer turned from BGR to RGB"] if self.was_bgr else []
        head = f"weights: {self.path}" + (f" ({', '.join(origin)})" if origin else "")
        share = f"{100 * self.share:.1f} % of the elements outside the head"
        rows = [("loaded", f"{len(self.loaded)} of {total} entries, {share}")]
        width = max((len(entry.key) for entry in self.reinitialised), default=0)
        rows += [
            ("re-initialised", f"{entry.key:{width}}  {_shapes(entry)}: {entry.why}")
            for entry in self.reinitialised
        ]
        if self.ignored:
            rows.append(("ignored", f"{len(self.ignored)} entries: {_few(self.ignored)}"))
        if self.other_parts:
            rows.append(("ignored", f"other weights in the file: {', '.join(self.other_parts)}"))
        return [head, *(f"  {word:14}  {text}" for word, text in rows)]


def _shapes(entry: Reinitialised) -> str:
    return f"here {entry.shape}, in the file {entry.file_shape or 'missing'}"


def fit(
    state: State,
    network: Network,
    dialect: Dialect,
    optional: Callable[[str], bool],
    *,
    path: str,
    backbone_only: bool,
) -> LoadReport:
    """Which entries of `state` (our names) are loaded. UserError for what does not fit.

    `optional`: whether an entry may be missing; `backbone_only`: the file is that of a
    detection or segmentation network.
    """
    own = network.state
    same = {key for key in own if key in state and state[key].shape == own[key].shape}
    anew = _may_start_anew(state, network, optional, backbone_only)
    misshapen = [key for key in own if key in state and key not in same and key not in anew]
    lacking = [key for key in own if key not in state and key not in anew]
    unknown = [key for key in state if key not in own]
    if not same:
        if any(f"encoder.{key}" in own for key in state):
            raise UserError(
                f"{path}: holds a classifier, whose entries are those of the backbone here; give it as "
                "model.classification.pretrained"
            )
        raise UserError(
            f"{path}: none of its {len(state)} entries is in this network of {len(own)} "
            f"(file: {_few(state)}; here: {_few(own)}): the file belongs to another network"
        )
    share = network.share_of_backbone(same, without=network.behind if backbone_only else ())
    if wrong := [key for key in same if not _sound(state[key], own[key])]:
        raise UserError(
            f"{path}: {len(wrong)} entries hold no numbers that a network can have ({_few(wrong)}): "
            "NaN, infinity, or integers for fractions; take another file"
        )
    if share < ENOUGH or unknown or lacking or misshapen:
        texts = _mistakes(state, network, dialect, misshapen, lacking, unknown, share)
        raise UserError(f"{path}: {'; '.join(texts)}")
    loaded = tuple(key for key in own if key in same)
    fresh = tuple(
        Reinitialised(key, tuple(own[key].shape), _shape(state.get(key)), anew[key])
        for key in own
        if key not in same
    )
    return LoadReport(path, loaded, fresh, share, dialect.library)


def _sound(value: Tensor, own: Tensor) -> bool:
    """Whether all values are finite, and fractions where the network has fractions."""
    if not own.is_floating_point() or value.is_meta:
        return True
    return value.is_floating_point() and bool(value.isfinite().all())


def _may_start_anew(
    state: State,
    network: Network,
    optional: Callable[[str], bool],
    backbone_only: bool,
) -> dict[str, str]:
    """The entries that need not be loaded, and why."""
    own = network.state
    missing = [key for key in own if key not in state]
    without_head = not any(network.in_head(key) for key in state)
    anew = {key: "allowed by the scopes" for key in missing if optional(key)}
    for key in own.keys() - anew:
        if network.in_head(key) and key in state:
            if state[key].shape != own[key].shape and state[key].shape[1:] == own[key].shape[1:]:
                anew[key] = "another number of classes"
        elif network.in_head(key) and without_head:
            anew[key] = "the file has no classifier"
        elif backbone_only and key in missing and _is_in(key, network.behind):
            anew[key] = "detection and segmentation go without it"
    return anew


def _mistakes(
    state: State,
    network: Network,
    dialect: Dialect,
    misshapen: Sequence[str],
    lacking: Sequence[str],
    unknown: Sequence[str],
    share: float,
) -> list[str]:
    """What does not fit, and the scope that would allow it if there is enough of the rest."""
    enough = share >= ENOUGH
    texts = []
    if not enough:
        texts.append(
            f"only {100 * share:.1f} % of the elements outside the head fit, at least "
            f"{100 * ENOUGH:.0f} % are needed: the file belongs to another network or size"
        )
    if misshapen:
        shapes = [
            f"{k} is {_shape(state[k])} in the file and {_shape(network.state[k])} here"
            for k in misshapen
        ]
        hint = _hint("resume_exclude_scopes", misshapen, "to start anew there")
        texts.append(_few(shapes) + enough * hint)
    if lacking:
        names = [_both_names(key, dialect) for key in lacking]
        hint = _hint("ignore_missing_scopes", lacking, "if they may start anew")
        texts.append(
            f"the file lacks {len(lacking)} of {len(network.state)} entries ({_few(names)})"
            + enough * hint
        )
    if unknown:
        hint = _hint("resume_exclude_scopes", unknown, "to leave them out")
        texts.append(
            f"{len(unknown)} of its {len(state)} entries are unknown here ({_few(unknown)})"
            + enough * hint
        )
    return texts


def _both_names(key: str, dialect: Dialect) -> str:
    theirs = dialect.names(key)
    return key if theirs == (key,) else f"{key}, there {' + '.join(theirs)}"


def _hint(option: str, keys: Iterable[str], purpose: str) -> str:
    """The option that covers `keys`: one pattern per part of the network."""
    parts = dict.fromkeys(key.split(".", 1)[0] for key in keys)
    scopes = ",".join(f"{part}.*" for part in parts)
    return f': add model.{option}="{scopes}" {purpose}'


def _few(texts: Iterable[str], limit: int = 3) -> str:
    listed = list(texts)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _shape(value: Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)
