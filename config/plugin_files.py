"""Plugins that are single files are modules in here; the name of each holds the path of its file.

So whatever a plugin defines can be pickled, and a process that was started afresh (a worker of the
loader where processes are not forked) finds it again by nothing but the name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

__path__: list[str] = []  # what makes this module a package


def module_name(path: Path) -> str:
    """The name under which the file can be imported."""
    return f"{__name__}.{re.sub(r'[^a-zA-Z0-9]', '_', path.stem)}_{os.fsencode(path).hex()}"


class _ByPath(MetaPathFinder):
    """Finds the file in the name of a module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        file = os.fsdecode(bytes.fromhex(fullname.rpartition("_")[2]))
        return spec_from_file_location(fullname, file)


sys.meta_path.append(_ByPath())
