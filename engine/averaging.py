"""The best weights of a run, kept as files, and their average."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from cvnets.weights.files import read_checkpoint
from engine.checkpoint import write_atomically

Kept = list[dict[str, Any]]  # the manifest: file, score and epoch of each, the oldest first


def keep_best(kept: Kept, stem: str, score: float, epoch: int, most: int) -> tuple[str, list[str]]:
    """Enter a new best into the manifest: the name of its file, and those of files that are to go.

    `stem` is checkpoint or checkpoint_ema. Where another epoch has the same four decimals in its
    name, the epoch is added. Of more than `most` the oldest go, which are the worst.
    """
    name = f"{stem}_score_{score:.4f}.pt"
    if any(entry["file"] == name for entry in kept):
        name = f"{stem}_score_{score:.4f}_epoch{epoch}.pt"
    kept.append({"file": name, "score": score, "epoch": epoch})
    return name, [kept.pop(0)["file"] for _ in range(len(kept) - most)]


def carry_over(names: Iterable[str], source: Path, folder: Path) -> list[str]:
    """Copy files from another run's folder into this one; the names of those that are not there."""
    missing = []
    for name in names:
        if (source / name).is_file():
            _copy(source / name, folder / name)
        else:
            missing.append(name)
    return missing


def _copy(source: Path, target: Path) -> None:
    def write(file: IO[bytes]) -> None:
        with open(source, "rb") as original:
            shutil.copyfileobj(original, file)

    write_atomically(target, write)


def present(folder: Path, kept: Kept) -> Kept:
    """The entries whose files are in the run folder: somebody may have deleted some."""
    return [entry for entry in kept if (folder / entry["file"]).is_file()]


def average_of(folder: Path, kept: Sequence[Mapping[str, Any]]) -> dict[str, Tensor] | None:
    """The mean of these weights in the run folder; None of fewer than two."""
    paths = [folder / entry["file"] for entry in kept]
    return average(read_checkpoint(path) for path in paths) if len(paths) > 1 else None


def average(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The arithmetic mean of floating-point entries, added up in float64; the rest is the last's.

    All states have the same entries; each result has the type of its entries.
    """
    sums: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for last in states:
        for key, value in last.items():
            if value.is_floating_point():
                sums[key] = value.double() if count == 0 else sums[key] + value
        count += 1
    return {
        key: (sums[key] / count).to(value.dtype) if key in sums else value
        for key, value in last.items()
    }
