"""The scope options of ml-cvnets: regular expressions on the names of a weights file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from config.errors import UserError
from cvnets.weights.files import State


def patterns(given: str | Sequence[str], option: str) -> list[re.Pattern[str]]:
    """Compile patterns from a list, or a text with commas. UserError names the `option`."""
    texts = given.split(",") if isinstance(given, str) else given
    return [_compiled(text.strip(), option) for text in texts if text.strip()]


def _compiled(text: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"{option}: {text!r} is no regular expression ({error})") from None


def matches(scopes: Iterable[re.Pattern[str]], key: str) -> bool:
    """Whether any pattern matches from the start of a name."""
    return any(pattern.match(key) for pattern in scopes)


def _rule(pair: Sequence[str], option: str) -> tuple[re.Pattern[str], str]:
    if len(pair) != 2:
        raise UserError(f"{option}: a pair of pattern and replacement is expected, not {pair!r}")
    pattern = _compiled(pair[0], option)
    try:
        re.sub(pattern.pattern + "|", pair[1], "")  # so that the replacement is looked at
    except (re.error, IndexError) as error:
        raise UserError(f"{option}: {pair[1]!r} cannot replace {pair[0]!r} ({error})") from None
    return pattern, pair[1]


def renamed(state: State, pairs: Iterable[Sequence[str]], path: str | Path) -> State:
    """Apply (pattern, replacement) pairs in order. UserError if two entries get one name."""
    option = "model.rename_scopes_map"
    rules = [_rule(pair, option) for pair in pairs]
    result: State = {}
    for key, value in state.items():
        new = key
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        if new in result:
            raise UserError(f"{option}: two entries of {path} become {new!r}")
        result[new] = value
    return result
