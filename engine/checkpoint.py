"""Writing and reading files of tensors: atomically, and without running code from a file."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from config.errors import UserError
from cvnets.weights.files import METADATA, import_safetensors, read_checkpoint

STATE = "training_checkpoint_last.pt"


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside `path`, flush to the disk, rename: there is always one whole file.

    UserError when the disk is full or the folder cannot be written; the old file is intact then.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot write: no folder {path.parent}; create it")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot write: {_reason(error, path)}; what was saved before is whole"
        ) from None


def _reason(error: OSError | RuntimeError, path: Path) -> str:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # torch's zip writer hides the errno of a full disk in a RuntimeError
    free = shutil.disk_usage(path.parent).free
    if full or (isinstance(error, RuntimeError) and free < 1 << 20):
        return "the disk is full, free some space"
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(finite(record), indent=2) + "\n")


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the training state of a run."""
    write_atomically(folder / STATE, lambda file: torch.save(dict(state), file))


def save_weights(path: Path, model: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a bare state dict with official names; `metadata` (JSON types) travels with it."""
    write_weights(path, model.state_dict(), metadata)


def write_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a bare state dict, by the ending for torch.load or as safetensors.

    `metadata` travels in `_metadata["cvnets"]`, which load_state_dict ignores; in safetensors as
    JSON in the header.
    """
    if path.suffix == ".safetensors":
        header = {METADATA: json.dumps(finite(metadata)), "format": "pt"}
        dense = {key: value.contiguous() for key, value in state.items()}  # it takes no others
        content = import_safetensors(path).torch.save(dense, header)
        write_atomically(path, lambda file: file.write(content))
        return
    bare = OrderedDict(state)
    bare._metadata = getattr(state, "_metadata", {}) | {METADATA: dict(metadata)}  # type: ignore[attr-defined]
    write_atomically(path, lambda file: torch.save(bare, file))


def read_state(path: Path) -> dict[str, Any]:
    """Read a training state. UserError for a missing, damaged or unsafe file."""
    state = read_checkpoint(path)
    if not isinstance(state, dict):
        raise UserError(f"{path}: not a training state")
    return state
