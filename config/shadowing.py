"""Our top-level names are common words: say which foreign module stands in the way of ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from config.errors import UserError

OURS = ("config", "cvnets", "data", "optim", "loss_fn", "engine")


def check_our_modules() -> None:
    """UserError if a foreign module or package would be imported in place of one of ours."""
    home = Path(__file__).resolve().parent.parent
    for name in OURS:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve().parent.parent != home:
            raise UserError(
                f"module {name!r} of cvnets is hidden by {origin or 'a folder without __init__.py'}; "
                "run from another folder, or rename or uninstall the other one"
            )
