"""The folder of one run: never two runs in one, never a result overwritten silently."""

from __future__ import annotations

import logging
import os
import platform
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from config.errors import Problem, RecipeError, UserError
from engine.checkpoint import STATE, write_json, write_text
from engine.reading import load_recipe
from engine.recipe import Recipe
from engine.resolved import flat, operational_keys, resolved_yaml

CONFIG = "config.yaml"
PACKAGES = ("cvnets", "torch", "torchvision", "numpy", "opencv-python", "pydantic", "pycocotools")


def run_folder(recipe: Recipe) -> Path:
    """results_loc/run_label."""
    return Path(recipe.common.results_loc) / recipe.common.run_label


def state_to_resume(recipe: Recipe) -> Path | None:
    """The training state to continue from, or None for a new run.

    UserError when `common.resume` names no file, or when the folder holds a run and
    `common.auto_resume` is off. The recipe may differ from the stored one in operational keys.
    """
    folder = run_folder(recipe)
    given = recipe.common.resume
    own = recipe.common.auto_resume and (folder / STATE).is_file()
    # a run that has a state of its own was begun from the given one, and goes on from its own
    state = Path(given) if given and not own else folder / STATE
    if given and not own and not state.is_file():
        raise UserError(f"common.resume: no file {state}; give a {STATE}, or leave the key out")
    used = _holds_a_run(folder)
    if used and not recipe.common.auto_resume and (not given or state.parent != folder):
        raise UserError(
            f"{folder} holds a run already; continue it with common.auto_resume=true, "
            "or choose another common.run_label"
        )
    if not state.is_file():
        return None
    if recipe.common.resume_changes == "refuse" and (state.parent / CONFIG).is_file():
        _refuse_changes(recipe, state.parent / CONFIG)
    return state


def _holds_a_run(folder: Path) -> bool:
    """Whether a run in the folder came as far as to leave anything: a step, a state."""
    steps = folder / "metrics.jsonl"
    begun = (folder / STATE).exists() or (steps.exists() and steps.stat().st_size > 0)
    return (folder / CONFIG).exists() and begun


def _refuse_changes(recipe: Recipe, stored: Path) -> None:
    """RecipeError listing every option that is not operational and differs from the stored recipe."""
    before, now = flat(load_recipe(stored, plugins=False)), flat(recipe)
    free = operational_keys(type(recipe))
    problems = [
        Problem(
            recipe.origins.get(key, "default"),
            key,
            f"was {_shown(before.get(key))} when the run was started, now {_shown(now.get(key))} - "
            "change it back, take another common.run_label, or set common.resume_changes=allow",
        )
        for key in sorted(before.keys() | now.keys())
        if key not in free and before.get(key) != now.get(key)
    ]
    if problems:
        raise RecipeError(problems)


def _shown(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def make_folder(recipe: Recipe, *, below: str = "") -> Path:
    """Create the run folder, or a folder in it, if it is not there. UserError if that fails."""
    folder = run_folder(recipe) / below
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"common.results_loc: cannot create {folder}: {error.strerror}; choose another folder"
        ) from None
    return folder


def open_folder(recipe: Recipe) -> Path:
    """Create the folder and write config.yaml and environment.json; rank 0 only."""
    folder = make_folder(recipe)
    for left in folder.glob(".*.tmp"):  # by a process that was killed while it wrote
        left.unlink(missing_ok=True)
    write_text(folder / CONFIG, resolved_yaml(recipe))
    write_json(folder / "environment.json", environment())
    return folder


def environment() -> dict[str, Any]:
    """Versions, device, command and time: what a bug report needs."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def log_to_file(folder: Path, rank: int) -> logging.Handler:
    """Everything that is logged, with time and level, in run.log (run.rank1.log, ... elsewhere)."""
    name = "run.log" if rank == 0 else f"run.rank{rank}.log"
    handler = logging.FileHandler(folder / name, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    return handler
