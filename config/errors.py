"""The mistakes a user can mend. Entry points print them, one line each, and exit with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class UserError(Exception):
    """A mistake of the user: the message says in one line what is wrong, where, and what to do."""

    def lines(self) -> list[str]:
        """The lines to print, one per mistake."""
        return [" ".join(str(self).split())]


class StopRequested(Exception):
    """The run was asked to stop and has saved its state; commands exit with code 3."""


@contextmanager
def under(key: str, value: object) -> Iterator[None]:
    """Errors raised inside that begin with `value` get the key in front that it was given for."""
    try:
        yield
    except UserError as error:
        if str(error).startswith((f"{value}: ", f"{Path(str(value))}: ")):
            error.args = (f"{key}: {error}",)
        raise


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
        self.problems = tuple(sorted(problems, key=_by_line))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def lines(self) -> list[str]:
        return [str(problem) for problem in self.problems]


def _by_line(problem: Problem) -> tuple[bool, str, int]:
    """Files first, line by line; problems of one line keep their order."""
    file, _, line = problem.place.rpartition(":")
    return (not line.isdigit(), file, int(line) if line.isdigit() else 0)


def near(word: str, candidates: Iterable[str]) -> list[str]:
    """The one or two candidates that `word` may be a slip of."""
    return difflib.get_close_matches(word, sorted(set(candidates)), n=2, cutoff=0.6)


def suggestion(word: str, candidates: Iterable[str], *, limit: int = 12) -> str:
    """`did you mean x?` for the nearest candidates, else `allowed: ...` when the list is short."""
    names = sorted(set(candidates))
    if found := near(word, names):
        return f"did you mean {' or '.join(found)}?"
    if not names:
        return "nothing is allowed here"
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"allowed: {shown}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not registered."""
    hint = suggestion(name, known)
    return f"no {what} is called {name!r} - {hint} (one of your own: see common.plugins)"
