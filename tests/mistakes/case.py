"""How a mistake is made, and the steps that make one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import cvnets

WEIGHTS = "results/run/checkpoint_best.pt"
Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A mistake, and how it is made.

    `change` is what replaces what in recipe.yaml; `prepare` gets the folder that holds it and
    data/; `words` are the command. `after_run`: a training has been finished there before.
    `late`: it shows in training, when the run folder exists. `patch`: what ails the machine.
    """

    title: str
    change: tuple[str, str] = ("", "")
    words: str = "train recipe.yaml"
    prepare: Prepare = lambda folder: None
    after_run: bool = False
    late: bool = False
    patch: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def write(name: str, content: str | bytes) -> Prepare:
    def run(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return run


def cut(name: str, share: float) -> Prepare:
    def run(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return run


def remove(name: str) -> Prepare:
    def run(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return run


def make(name: str) -> Prepare:
    return lambda folder: (folder / name).mkdir(parents=True)


def save(name: str, content: object) -> Prepare:
    return lambda folder: torch.save(content, folder / name)


def all_of(*steps: Prepare) -> Prepare:
    return lambda folder: [step(folder) for step in steps]


def network(change: Callable[[dict], object] = lambda state: None, prefix: str = "") -> Prepare:
    """Save the entries of MobileViT-XXS as w.pt, after a change."""

    def run(folder: Path) -> None:
        state = cvnets.create_model("mobilevit_xx_small", n_classes=3).state_dict()
        change(state)
        torch.save({prefix + key: value for key, value in state.items()}, folder / "w.pt")

    return run


def without(*names: str) -> Callable[[dict], object]:
    """Take out all entries that begin so."""
    return lambda state: [state.pop(key) for key in list(state) if key.startswith(names)]
