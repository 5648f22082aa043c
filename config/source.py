"""YAML text and command-line words -> a tree of values that know where they stand.

Scalars stay text here; `config.reading` turns them into numbers, booleans or nulls by the type
that the option declares. That is what makes `1e-6`, `08` and `on` mean what a person means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from config.errors import Problem, RecipeError, UserError

COMMAND_LINE = "command line"
PYTHON = "python"


@dataclass(frozen=True)
class Scalar:
    """Text as written. `plain` is false for quoted text, which is never null."""

    text: str
    plain: bool = True


@dataclass(frozen=True)
class Value:
    """A scalar, a list of values, a mapping of values, or a plain Python object, and its place."""

    data: Any
    place: str


def load_file(path: Path, problems: list[Problem]) -> Value:
    """Read a YAML recipe. UserError if it cannot be read or parsed; duplicate keys are problems."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot read the recipe ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    return parse(text, str(path), problems)


def parse(text: str, name: str, problems: list[Problem], key: str = "") -> Value:
    """Parse YAML text to a tree; places are `name:line`, or `name` alone for the command line."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError([_syntax_problem(error, text, name, key)]) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value and not node.style):
        return Value({}, name)
    return _Nodes(name, problems).value(node, key)


# what PyYAML says -> what a person may understand, and whether it begins where the thing was opened
_SYNTAX = (
    ("'\\t'", "a tab - indent with spaces", False),
    ("while parsing a flow", "a bracket that is not closed, or a comma that is missing", True),
    ("quoted scalar, found unexpected", "a quote that is not closed", True),
    ("<block end>", "the indentation does not fit the lines above - indent alike", False),
    (
        "mapping values are not allowed",
        "no key can stand here - check the indentation, and the space after each colon",
        False,
    ),
    ("expected ':'", "a key without a colon - write 'key: value'", True),
    ("another document", "--- begins a second recipe - keep one", False),
)


def _syntax_problem(error: yaml.YAMLError, text: str, name: str, key: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        raw = ", ".join(part for part in (error.context, error.problem) if part)
        known = (row[1:] for row in _SYNTAX if row[0] in raw)
        what, opened = next(known, (raw, False))
        mark = (error.context_mark if opened else None) or error.problem_mark
        line = mark.line if mark else 0
    else:  # a character that YAML does not know
        line = text.count("\n", 0, getattr(error, "position", 0))
        what = f"the character {chr(getattr(error, 'character', 0))!r} is not allowed - remove it"
    place = name if name == COMMAND_LINE else f"{name}:{line + 1}"
    return Problem(place, key, f"not valid YAML: {what}")


class _Nodes:
    """Turns the nodes of one YAML text into values."""

    def __init__(self, name: str, problems: list[Problem]):
        self._name, self._problems = name, problems
        self._open: set[int] = set()

    def value(self, node: yaml.Node, key: str) -> Value:
        place = self._place(node)
        if isinstance(node, yaml.ScalarNode):
            return Value(Scalar(node.value, plain=node.style is None), place)
        if id(node) in self._open:
            self._problems.append(Problem(place, key, "an anchor that contains itself"))
            return Value(None, place)
        self._open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            value = Value([self.value(item, key) for item in node.value], place)
        else:
            assert isinstance(node, yaml.MappingNode)
            value = Value(self._mapping(node, key), place)
        self._open.remove(id(node))
        return value

    def _place(self, node: yaml.Node) -> str:
        return self._name if self._name == COMMAND_LINE else _line(self._name, node)

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Value]:
        tree: dict[str, Value] = {}
        places: dict[str, str] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if key_node.tag.endswith(":merge"):
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.append(Problem(place, key, "a key must be a word"))
                continue
            word = normal_key(key_node.value)
            dotted = f"{key}.{word}" if key else word
            if word in places:
                self._problems.append(
                    Problem(place, dotted, f"given twice, first at {places[word]} - keep one")
                )
                continue
            places[word] = place
            value = Value(self.value(value_node, dotted).data, place)
            put(tree, word, value, key, self._problems)
        # last, because a key of the mapping itself wins over a merged one
        for key_node, value_node in node.value:
            if key_node.tag.endswith(":merge"):
                self._merge(tree, self.value(value_node, key), key)
        return tree

    def _merge(self, tree: dict[str, Value], merged: Value, key: str) -> None:
        for source in merged.data if isinstance(merged.data, list) else [merged]:
            if isinstance(source.data, dict):
                for name, value in source.data.items():
                    tree.setdefault(name, value)
            else:
                text = "<< merges sections; what stands here is none"
                self._problems.append(Problem(source.place, key, text))


def _line(name: str, node: yaml.Node) -> str:
    return f"{name}:{node.start_mark.line + 1}"


def text_of(value: Value) -> str:
    """A scalar as it was written, true and false as YAML writes them; "" for anything else."""
    if isinstance(value.data, Scalar):
        return value.data.text
    return str(value.data).lower() if isinstance(value.data, bool | float | int) else ""


def normal_key(key: str) -> str:
    """The official spelling of a key: dashes equal underscores."""
    return key.strip().replace("-", "_")


def put(
    tree: dict[str, Value], dotted: str, value: Value, parent: str, problems: list[Problem] | None
) -> None:
    """Set `a.b.c` in a tree of mappings. With `problems`, a key that is there already is one."""
    key = f"{parent}.{dotted}" if parent else dotted
    *path, last = dotted.split(".")
    for part in path:
        inner = tree.get(part)
        if inner is None or not isinstance(inner.data, dict):
            if inner is not None and problems is not None:
                text = f"not possible, for {part} is no section at {inner.place}"
                problems.append(Problem(value.place, key, text))
            inner = tree[part] = Value({}, value.place)
        tree = inner.data
    old = tree.get(last)
    if old is not None and isinstance(old.data, dict) and isinstance(value.data, dict):
        for name, item in value.data.items():
            put(old.data, name, item, key, problems)
    elif old is not None and problems is not None:
        text = f"given twice, first at {old.place} - keep one"
        problems.append(Problem(value.place, key, text))
    else:
        tree[last] = value


def from_mapping(
    mapping: Mapping[str, Any], problems: list[Problem] | None = None, place: str = PYTHON
) -> Value:
    """A tree from a Python mapping that may be nested, have dotted keys, or both."""
    tree: dict[str, Value] = {}
    for key, data in mapping.items():
        put(tree, normal_key(str(key)), _from_python(data, problems, place), "", problems)
    return Value(tree, place)


def _from_python(data: Any, problems: list[Problem] | None, place: str) -> Value:
    if isinstance(data, Mapping):
        return from_mapping(data, problems, place)
    if isinstance(data, list | tuple):
        return Value([_from_python(item, problems, place) for item in data], place)
    if isinstance(data, str):
        return Value(Scalar(data, plain=False), place)
    return Value(data, place)


def override(tree: Value, words: Iterable[str], problems: list[Problem]) -> None:
    """Apply `a.b=value` words on top of a tree; what cannot be read is added to `problems`."""
    for word in words:
        key, equals, text = word.partition("=")
        key = normal_key(key).removeprefix("__")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", key):
            text = f"{word!r} is not key=value, e.g. common.seed=1"
            problems.append(Problem(COMMAND_LINE, "", text))
            continue
        try:
            data = _command_line_value(text.strip(), key, problems)
        except RecipeError as error:
            problems.extend(error.problems)
            continue
        put(tree.data, key, Value(data, COMMAND_LINE), "", None)


def _command_line_value(text: str, key: str, problems: list[Problem]) -> Any:
    """YAML for lists, mappings and quoted text; anything else is one scalar, taken literally."""
    if text[:1] in ("[", "{", '"', "'"):
        return parse(text, COMMAND_LINE, problems, key).data
    return Scalar(text)


def flatten(tree: Value, prefix: str = "") -> dict[str, Value]:
    """`a.b.c` -> leaf value. Lists are leaves."""
    flat: dict[str, Value] = {}
    for key, value in tree.data.items():
        dotted = f"{prefix}.{key}" if prefix else key
        if isinstance(value.data, dict):
            flat |= flatten(value, dotted)
        else:
            flat[dotted] = value
    return flat
