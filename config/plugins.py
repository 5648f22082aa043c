"""Import the user's own components, so that they register themselves."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from config.errors import UserError
from config.foreign import foreign

GROUP = "cvnets.plugins"


def load_plugins(names: Iterable[str], *, folder: Path) -> None:
    """Import `my_file.py` (relative to the recipe's folder, else the working folder) or modules.

    Modules that an installed package lists as entry points of the group `cvnets.plugins` are
    imported first. Raises UserError when a plugin is missing or fails.
    """
    for entry in entry_points(group=GROUP):
        _import(entry.value.partition(":")[0], f"entry point {entry.name}")
    for name in names:
        if name.endswith(".py"):
            _import_file(name, folder)
        else:
            _import(name, "common.plugins")


def _import(module: str, origin: str) -> None:
    with foreign(f"{origin}: cannot import {module!r}"):
        importlib.import_module(module)


def _import_file(name: str, folder: Path) -> None:
    places = [Path(name)] if Path(name).is_absolute() else [folder / name, Path(name)]
    path = next((place.resolve() for place in places if place.is_file()), None)
    if path is None:
        looked = " and ".join(str(place) for place in places)
        raise UserError(f"common.plugins: no file {name!r}; looked for {looked}")
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    module_name = f"cvnets_plugin_{path.stem}_{digest}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before execution, so that what it defines can be pickled
    try:
        with foreign(f"common.plugins: {path}"):
            spec.loader.exec_module(module)
    except UserError:
        del sys.modules[module_name]
        raise
