"""The best weights of a run, kept as files, and their average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cvnets.weights.files import read_checkpoint

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


def average_of(folder: Path, kept: Sequence[Mapping[str, Any]]) -> dict[str, Tensor] | None:
    """The mean of the kept weights in the run folder; None of fewer than two.

    Files that are not there any more (another folder was resumed from, say) are left out.
    """
    paths = [folder / entry["file"] for entry in kept]
    paths = [path for path in paths if path.is_file()]
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
