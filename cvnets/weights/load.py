"""Read weights from a file, fit them to a network, and report what was fitted."""

from __future__ import annotations

import errno
import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from config.errors import UserError

State = dict[str, Tensor]

# What torch.load raises for bytes that are no (whole) checkpoint: found by damaging files.
_DAMAGE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
)
_CODE = re.compile(r"GLOBAL ([\w.]+)")


# --- reading -------------------------------------------------------------------------------------


def load_state(path: str | Path) -> tuple[State, dict[str, Any]]:
    """The weights in a file, and our metadata about them ({} if the file has none).

    Reads bare state dicts and ml-cvnets training checkpoints (`model_state_dict`), never runs
    code from the file, and takes off the prefixes of DDP (`module.`) and of compilation
    (`_orig_mod.`). UserError for anything else.
    """
    content = read_checkpoint(Path(path))
    if isinstance(content, Mapping) and isinstance(content.get("model_state_dict"), Mapping):
        content = content["model_state_dict"]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not the weights of a network")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise UserError(
                f"{path}: is no checkpoint of weights: "
                f"entry {key!r} is {type(value).__name__}, not a named tensor"
            )
    if not content:
        raise UserError(f"{path}: holds no weights")
    metadata = getattr(content, "_metadata", {}).get("cvnets", {})
    return _without_prefixes(content), dict(metadata)


def read_checkpoint(path: Path) -> Any:
    """What torch.save wrote, tensors and plain values only. UserError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about damaged files
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch looks for the end of a file that is cut off
            raise _damaged(path) from None
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGE as error:
        code = _CODE.search(str(error))
        if code:
            raise UserError(
                f"{path}: holds Python objects ({code[1]}) beside tensors, and loading them could "
                f"run any code; save the state dict alone"
            ) from None
        raise _damaged(path) from None


def _damaged(path: Path) -> UserError:
    begins_well = path.read_bytes()[:2] == b"PK"
    what = "is damaged or cut off" if begins_well else "is no checkpoint written by torch.save"
    return UserError(f"{path}: {what} (size {path.stat().st_size:,} bytes)")


def _without_prefixes(state: Mapping[str, Tensor]) -> State:
    plain = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    while all(key.startswith("module.") for key in plain):
        plain = {key.removeprefix("module."): value for key, value in plain.items()}
    return plain


# --- fitting -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reinitialised:
    """An entry of the network that keeps its fresh value; its shape in the file (if there)."""

    key: str
    file_shape: tuple[int, ...] | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did: entries of the network, and unused ones of the file."""

    path: str
    loaded: tuple[str, ...]
    reinitialised: tuple[Reinitialised, ...]
    ignored: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people."""
        total = len(self.loaded) + len(self.reinitialised)
        text = [f"{self.path}: loaded {len(self.loaded)} of {total} entries"]
        for entry in self.reinitialised:
            shape = f"{entry.file_shape} in the file" if entry.file_shape else "not in the file"
            text.append(f"  re-initialised {entry.key}: {entry.shape} here, {shape}")
        if self.ignored:
            text.append(f"  ignored {len(self.ignored)} entries of the file: {_few(self.ignored)}")
        return text


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    exclude: str | Sequence[str] = (),
    ignore_missing: str | Sequence[str] = (),
    rename: Iterable[Sequence[str]] = (),
) -> LoadReport:
    """Load the weights of a file into `model`, all of them except where a pattern allows less.

    Patterns are regular expressions matched from the start of a name, in a list or separated by
    commas. `exclude`: entries of the file to drop (by their names in the file), which the model
    may then lack; `rename`: (pattern, replacement) pairs, applied in order to the rest;
    `ignore_missing`: entries of the model that the file may lack. UserError, with the model
    untouched, if anything else does not match in name or shape.
    """
    state, _ = load_state(path)
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    drop = _patterns(exclude, "model.resume_exclude_scopes")
    optional = drop + _patterns(ignore_missing, "model.ignore_missing_scopes")
    kept = _renamed({k: v for k, v in state.items() if not _matches(drop, k)}, rename, path)
    _check_fit(kept, own, optional, path)
    model.load_state_dict(kept, strict=False)
    fresh = (key for key in own if key not in kept)
    return LoadReport(
        path=str(path),
        loaded=tuple(key for key in own if key in kept),
        reinitialised=tuple(
            Reinitialised(key, _shape(state.get(key)), tuple(own[key].shape)) for key in fresh
        ),
        ignored=tuple(key for key in state if _matches(drop, key) and key not in own),
    )


def _patterns(given: str | Sequence[str], option: str) -> list[re.Pattern[str]]:
    texts = given.split(",") if isinstance(given, str) else given
    return [_compiled(text.strip(), option) for text in texts if text.strip()]


def _compiled(text: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"{option}: {text!r} is no regular expression ({error})") from None


def _matches(patterns: Iterable[re.Pattern[str]], key: str) -> bool:
    return any(pattern.match(key) for pattern in patterns)


def _renamed(state: State, pairs: Iterable[Sequence[str]], path: str | Path) -> State:
    option = "model.rename_scopes_map"
    rules = [(_compiled(pattern, option), replacement) for pattern, replacement in pairs]
    renamed: State = {}
    for key, value in state.items():
        new = key
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        if new in renamed:
            raise UserError(f"{option}: two entries of {path} become {new!r}")
        renamed[new] = value
    return renamed


# --- what does not fit ---------------------------------------------------------------------------


def _check_fit(
    state: State, own: State, optional: Sequence[re.Pattern[str]], path: str | Path
) -> None:
    """One UserError for all entries that differ in name or shape."""
    unknown = [key for key in state if key not in own]
    missing = [key for key in own if key not in state and not _matches(optional, key)]
    shared = [key for key in state if key in own]
    reshaped = [key for key in shared if state[key].shape != own[key].shape]
    if not (unknown or missing or reshaped):
        return
    if not shared:
        raise UserError(
            f"{path}: none of its {len(state)} entries is in this network of {len(own)} "
            f"(file: {_few(state)}; here: {_few(own)}): the file belongs to another network"
        )
    texts = []
    if reshaped:
        shapes = [
            f"{k} is {_shape(state[k])} in the file and {_shape(own[k])} here" for k in reshaped
        ]
        texts.append(
            f"{_few(shapes)}: add model.resume_exclude_scopes={_scopes(reshaped)} "
            f"to start anew there"
        )
    if missing:
        texts.append(
            f"the file lacks {len(missing)} of {len(own)} entries ({_few(missing)}): "
            f"add model.ignore_missing_scopes={_scopes(missing)} if they may start anew"
        )
    if unknown:
        texts.append(
            f"{len(unknown)} of its {len(state)} entries are unknown here ({_few(unknown)}): "
            f"add model.resume_exclude_scopes={_scopes(unknown)} to leave them out"
        )
    raise UserError(f"{path}: {'; '.join(texts)}")


def _scopes(keys: Iterable[str]) -> str:
    """The option value that covers `keys`: one pattern per part of the network."""
    parts = dict.fromkeys(key.split(".", 1)[0] for key in keys)
    return '"' + ",".join(f"{part}.*" for part in parts) + '"'


def _few(texts: Iterable[str], limit: int = 3) -> str:
    listed = list(texts)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _shape(value: Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)
