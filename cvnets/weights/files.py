"""Read files of weights: what torch.save or safetensors wrote, without running code from them."""

from __future__ import annotations

import errno
import json
import pickle
import re
import struct
import warnings
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from config.errors import UserError

State = dict[str, Tensor]
METADATA = "cvnets"  # where our metadata stands: in `_metadata`, or in the header of safetensors

# Under which names checkpoints of training hold the weights and their running average.
MODEL_PARTS = ("model_state_dict", "state_dict", "model")
EMA_PARTS = ("ema_state_dict", "state_dict_ema", "model_ema")

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


@dataclass(frozen=True)
class WeightsFile:
    """The weights in a file under the names that it has, and our metadata ({} without any).

    `part`: the entry of a training checkpoint that they come from, "" for a bare state dict;
    `other_parts`: further weights that the checkpoint holds.
    """

    path: str
    state: State
    metadata: dict[str, Any]
    part: str = ""
    other_parts: tuple[str, ...] = ()


def read_weights(path: str | Path, *, ema: bool = False) -> WeightsFile:
    """The weights in a .pt, .pth or .safetensors file; `ema`: the averaged ones of a checkpoint.

    Reads bare state dicts and training checkpoints (ours, those of ml-cvnets, timm and others),
    and takes off the prefixes of DDP (`module.`) and of compilation (`_orig_mod.`). UserError for
    anything else, and for `ema` where a training checkpoint holds no average.
    """
    if Path(path).suffix.lower() == ".safetensors":
        content, metadata = _read_safetensors(Path(path))
        part, others = _part(content, ema, path)
    else:
        content = read_checkpoint(Path(path))
        part, others = _part(content, ema, path)
        content = content[part] if part else content
        metadata = dict(getattr(content, "_metadata", {}).get(METADATA, {}))
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
    return WeightsFile(str(path), _without_prefixes(content, path), metadata, part, others)


def _part(content: Any, ema: bool, path: str | Path) -> tuple[str, tuple[str, ...]]:
    """Which entry of a training checkpoint is asked for, and the other weights in it."""
    if not isinstance(content, Mapping):
        return "", ()
    parts = [name for name in (*MODEL_PARTS, *EMA_PARTS) if isinstance(content.get(name), Mapping)]
    asked = [name for name in parts if (name in EMA_PARTS) == ema]
    if ema and not asked:
        raise UserError(f"{path}: holds no averaged weights ({', '.join(EMA_PARTS)})")
    taken = next(iter(asked or parts), "")
    return taken, tuple(name for name in parts if name != taken)


def read_checkpoint(path: Path) -> Any:
    """What torch.save wrote, tensors and plain values only. UserError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about damaged files
            with torch.serialization.safe_globals([Namespace]):  # options, as timm saves them
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


def _read_safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    safetensors = import_safetensors(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except safetensors.SafetensorError:
        size = f"{path.stat().st_size:,}"
        raise UserError(f"{path}: is no whole safetensors file (size {size} bytes)") from None
    try:
        return state, dict(json.loads(header.get(METADATA, "{}")))
    except (ValueError, TypeError):
        raise UserError(f"{path}: its header has {METADATA!r} metadata that are not ours") from None


def import_safetensors(path: Path) -> Any:
    """The library; UserError if it is not installed."""
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise UserError(f"{path}: needs the library safetensors; pip install safetensors") from None
    return safetensors


def _without_prefixes(state: Mapping[str, Tensor], path: str | Path) -> State:
    plain = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    if len(plain) < len(state):
        raise UserError(f"{path}: has entries both with and without _orig_mod.; keep one kind")
    inner = {key for key in plain if key != "n_averaged"}  # which torch's AveragedModel counts
    while inner and all(key.startswith("module.") for key in inner):
        plain = {key.removeprefix("module."): plain[key] for key in plain if key in inner}
        inner = set(plain)
    return plain
