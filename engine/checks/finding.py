"""What a check has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `lines` for people; `problems`, a line each, says what is wrong and what to do; `figures`, JSON
    types, hold the same for programs.
    """

    title: str
    lines: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {
            "title": self.title,
            "ok": self.ok,
            "lines": list(self.lines),
            "problems": list(self.problems),
            "figures": dict(self.figures),
        }
