"""Import the user's own components, so that they register themselves."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from config.errors import UserError
from config.foreign import ForeignError, foreign
from config.plugin_files import module_name

GROUP = "cvnets.plugins"
KEY = "common.plugins"


def load_plugins(names: Iterable[str], *, folder: Path) -> list[str]:
    """Import `my_file.py` (relative to the recipe's folder, else the working folder) or modules.

    Modules that an installed package lists as entry points of the group `cvnets.plugins` are
    imported first. Returns the names, files with their whole path. Raises UserError when a plugin
    is missing or fails.
    """
    for entry in entry_points(group=GROUP):
        _import(entry.value.partition(":")[0], f"entry point {entry.name}")
    return [
        _import_file(name, folder) if name.endswith(".py") else _import(name, KEY) for name in names
    ]


def _import(module: str, origin: str) -> str:
    try:
        with foreign(f"{origin}: cannot import {module!r}"):
            importlib.import_module(module)
    except ForeignError as error:
        missing = error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or missing.name is None:
            raise
        if not f"{module}.".startswith(f"{missing.name}."):
            raise
        hint = "install it, or give a file, e.g. my_components.py"
        raise UserError(f"{origin}: no module {missing.name!r}; {hint}") from None
    return module


def _import_file(name: str, folder: Path) -> str:
    places = [folder / name, Path(name)]  # the same twice if `name` is a whole path
    path = next((place.resolve() for place in places if place.is_file()), None)
    if path is None:
        looked = " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
        raise UserError(f"{KEY}: no file {name!r}; looked for {looked}")
    with foreign(f"{KEY}: {path}"):
        importlib.import_module(module_name(path))
    return str(path)
