"""Both styles of the command line, read by one parser.

`RECIPE a.b=c` and `--common.config-file RECIPE --common.override-kwargs a.b=c --a.b c`.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from config.errors import UserError
from config.source import normal_key

SHORT = {"weights_source": "model.weights_source"}  # what other commands spell so, too
_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.-]*=")


@dataclass
class RecipeArguments:
    """The recipe (a path or a name, or None) and `key=value` words, in the order given.

    `own`: the options of the command itself that were given, "true" for one without a value.
    """

    recipe: str | None = None
    overrides: list[str] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    quiet: bool = False
    verbose: bool = False


def read_arguments(
    words: Sequence[str], usage: str, own: Mapping[str, bool] = MappingProxyType({})
) -> RecipeArguments:
    """Read the words of a command that takes a recipe. `--help` prints `usage` and exits.

    `own`: options that are no keys of a recipe, with underscores, and whether they take a value.
    """
    found = RecipeArguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            print(usage)
            raise SystemExit(0)
        if word in ("-q", "--quiet"):
            found.quiet = True
        elif word in ("-v", "--verbose"):
            found.verbose = True
        elif (name := normal_key(word[2:].partition("=")[0])) in own and word.startswith("--"):
            found.own[name] = _own_value(word, rest, takes_value=own[name])
        elif word.startswith("--") and len(word) > 2:
            _option(word[2:], rest, found)
        elif word.startswith("-"):
            raise UserError(f"{word}: no such option; allowed: -q, -v, -h, --key value, key=value")
        elif _ASSIGNMENT.match(word):
            found.overrides.append(word)
        else:
            _take_recipe(word, found)
    return found


def _take_recipe(word: str, found: RecipeArguments) -> None:
    if found.recipe is not None:
        raise UserError(
            f"{word!r}: a recipe is given already ({found.recipe}); options are key=value"
        )
    found.recipe = word


def _own_value(word: str, rest: list[str], *, takes_value: bool) -> str:
    """The value of `--name value` or `--name=value`, taken off `rest`; "true" if there is none."""
    name, equals, value = word.partition("=")
    if not takes_value:
        if equals:
            raise UserError(f"{name}: takes no value ({value!r} given)")
        return "true"
    if not equals and (not rest or _is_option(rest[0])):
        raise UserError(f"{name}: a value is expected, {name} VALUE")
    return value if equals else rest.pop(0)


def _option(name: str, rest: list[str], found: RecipeArguments) -> None:
    """`--key value ...`, `--key=value`, or `--flag`, with its values taken off `rest`."""
    name, equals, value = name.partition("=")
    key = normal_key(name)
    key = SHORT.get(key, key)
    values = [value] if equals else []
    if key == "common.override_kwargs":
        while rest and not rest[0].startswith("-"):
            values.append(rest.pop(0))
        found.overrides += values
        return
    while not equals and rest and not _is_option(rest[0]):
        values.append(rest.pop(0))
    if key == "common.config_file":
        if len(values) != 1:
            raise UserError(f"--{name}: one recipe is expected ({len(values)} given)")
        _take_recipe(values[0], found)
        return
    found.overrides.append(f"{key}={','.join(values) if values else 'true'}")


def _is_option(word: str) -> bool:
    negative_number = re.fullmatch(r"-\.?(\d|inf).*", word) is not None
    return (word.startswith("-") and not negative_number) or _ASSIGNMENT.match(word) is not None


class Arguments(argparse.ArgumentParser):
    """The parser of a command without a recipe; a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as the user's mistake."""
        raise UserError(f"{self.prog}: {message}; {self.prog} --help shows the arguments")


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that prints: rank 0, or the only one."""
    return _rank() == 0


def start_logging(arguments: RecipeArguments) -> None:
    """Messages of the library on the terminal; other ranks than 0 only warn."""
    rank = _rank()
    level = logging.DEBUG if arguments.verbose else logging.INFO
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.WARNING if arguments.quiet or rank else level)
    handler.setFormatter(logging.Formatter(f"rank {rank}: %(message)s" if rank else "%(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("matplotlib", "PIL", "tensorboard"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
