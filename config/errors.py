"""The mistakes a user can mend. Entry points print them, one line each, and exit with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """A mistake of the user: the message says in one line what is wrong, where, and what to do."""

    def lines(self) -> list[str]:
        """The lines to print, one per mistake."""
        return [" ".join(str(self).split())]


class StopRequested(Exception):
    """The run was asked to stop and has saved its state; commands exit with code 3."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe.

    `place` is `file:line` or `command line`; `key` the dotted key ("" for the whole file).
    """

    place: str
    key: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.key}: {self.text}" if self.key else f"{self.place}: {self.text}"
        )


class RecipeError(UserError):
    """All mistakes found in a recipe, reported together."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def lines(self) -> list[str]:
        return [str(problem) for problem in self.problems]


def suggestion(word: str, candidates: Iterable[str], *, limit: int = 12) -> str:
    """`did you mean x?` for the nearest candidates, else `allowed: ...` when the list is short."""
    names = sorted(set(candidates))
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not names:
        return "nothing is allowed here"
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"allowed: {shown}"
