"""Writes docs/compatibility.md: the tables come from the code that reads recipes.

python docs/compatibility.py [FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from config.legacy import CONVERTED, OLD_KEYS, OLD_VALUES
from config.releases import DEFAULTS, MARKERS, REFINING, RELEASES

HERE = Path(__file__).resolve().parent
TEXT = (HERE / "compatibility.txt").read_text()


def main(file: Path) -> None:
    """Put the tables into the text where their names stand."""
    tables = {"markers": markers(), "defaults": defaults(), "translated": translated()}
    tables |= {"ignored": ignored()}
    file.write_text(TEXT.format(**{name: "\n".join(rows) for name, rows in tables.items()}))


def markers() -> list[str]:
    """Keys and values that only some releases know."""
    by_releases: dict[frozenset[str], list[str]] = {}
    for marker, releases in (MARKERS | REFINING).items():
        by_releases.setdefault(releases, []).append(f"`{marker}`")
    rows = ((_listed(releases), ", ".join(found)) for releases, found in by_releases.items())
    return _table(("only in", "keys and values"), rows)


def defaults() -> list[str]:
    """Defaults of older releases."""
    rows = ((f"`{row.key}`", row.value, _listed(row.releases)) for row in DEFAULTS)
    return _table(("key", "default", "in"), rows)


def translated() -> list[str]:
    """Old spellings that are read."""
    keys = ((old, today) for old, today in OLD_KEYS.items() if not isinstance(today, str))
    rows = [(f"`{old}`", " and ".join(f"`{new}`" for new in today)) for old, today in keys]
    rows += [(f"`{old}`", f"{words} `{new}`") for old, (new, _, words) in CONVERTED.items()]
    rows += [(f"`{key}: {old}`", f"`{key}: {new}`") for (key, old), new in OLD_VALUES.items()]
    return _table(("old", "read as"), rows)


def ignored() -> list[str]:
    """Keys that are accepted, and named in a line when they are given."""
    rows = ((f"`{old}`", today) for old, today in OLD_KEYS.items() if isinstance(today, str))
    return _table(("key", "why nothing reads it"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _listed(releases: frozenset[str]) -> str:
    return ", ".join(name for name in RELEASES if name in releases)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "compatibility.md")
