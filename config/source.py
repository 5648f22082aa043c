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
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read the recipe ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the recipe is not UTF-8 text") from None
    return parse(text, str(path), problems)


def parse(text: str, name: str, problems: list[Problem]) -> Value:
    """Parse YAML text to a tree; places are `name:line`, or `name` alone for the command line."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{name}{line}: not valid YAML: {getattr(error, 'problem', error)}"
        ) from None
    if node is None:
        return Value({}, name)
    return _convert(node, name, "", problems)


def _convert(node: yaml.Node, name: str, key: str, problems: list[Problem]) -> Value:
    place = name if name == COMMAND_LINE else f"{name}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        return Value(Scalar(node.value, plain=node.style is None), place)
    if isinstance(node, yaml.SequenceNode):
        return Value([_convert(item, name, key, problems) for item in node.value], place)
    tree: dict[str, Value] = {}
    for key_node, value_node in _merged_last(node.value):
        if key_node.tag.endswith(":merge"):
            _merge_anchor(tree, _convert(value_node, name, key, problems))
            continue
        word = normal_key(str(key_node.value))
        dotted = f"{key}.{word}" if key else word
        here = name if name == COMMAND_LINE else f"{name}:{key_node.start_mark.line + 1}"
        put(
            tree,
            word,
            Value(_convert(value_node, name, dotted, problems).data, here),
            key,
            problems,
        )
    return Value(tree, place)


def _merged_last(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """`<<` comes last, because a key of the mapping itself wins over a merged one."""
    return sorted(pairs, key=lambda pair: pair[0].tag.endswith(":merge"))


def _merge_anchor(tree: dict[str, Value], merged: Value) -> None:
    sources = merged.data if isinstance(merged.data, list) else [merged]
    for source in sources:
        for key, value in source.data.items():
            tree.setdefault(key, value)


def normal_key(key: str) -> str:
    """The official spelling of a key: dashes equal underscores."""
    return key.strip().replace("-", "_")


def put(
    tree: dict[str, Value], dotted: str, value: Value, parent: str, problems: list[Problem] | None
) -> None:
    """Set `a.b.c` in a tree of mappings. With `problems`, a key that is there already is one."""
    *path, last = dotted.split(".")
    for part in path:
        inner = tree.get(part)
        if inner is None or not isinstance(inner.data, dict):
            inner = tree[part] = Value({}, value.place)
        tree = inner.data
    old = tree.get(last)
    if old is not None and isinstance(old.data, dict) and isinstance(value.data, dict):
        for key, item in value.data.items():
            put(old.data, key, item, f"{parent}.{dotted}" if parent else dotted, problems)
        return
    if old is not None and problems is not None:
        key = f"{parent}.{dotted}" if parent else dotted
        problems.append(Problem(value.place, key, f"given twice, first at {old.place}"))
        return
    tree[last] = value


def from_mapping(mapping: Mapping[str, Any], place: str = PYTHON) -> Value:
    """A tree from a Python mapping that may be nested, have dotted keys, or both."""
    tree: dict[str, Value] = {}
    for key, data in mapping.items():
        put(tree, normal_key(str(key)), _from_python(data, place), "", None)
    return Value(tree, place)


def _from_python(data: Any, place: str) -> Value:
    if isinstance(data, Mapping):
        return from_mapping(data, place)
    if isinstance(data, list | tuple):
        return Value([_from_python(item, place) for item in data], place)
    if isinstance(data, str):
        return Value(Scalar(data, plain=False), place)
    return Value(data, place)


def override(tree: Value, words: Iterable[str]) -> None:
    """Apply `a.b=value` words on top of a tree; the value is YAML. All bad words are reported."""
    problems: list[Problem] = []
    for word in words:
        key, equals, text = word.partition("=")
        key = normal_key(key).removeprefix("__")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", key):
            problems.append(Problem(COMMAND_LINE, "", f"{word!r} is not key=value"))
            continue
        data = command_line_value(text, problems)
        put(tree.data, key, Value(data, COMMAND_LINE), "", None)
    if problems:
        raise RecipeError(problems)


def command_line_value(text: str, problems: list[Problem]) -> Any:
    """YAML for lists, mappings and quoted text; anything else is one scalar, taken literally."""
    stripped = text.strip()
    if stripped[:1] in ("[", "{", '"', "'"):
        return parse(stripped, COMMAND_LINE, problems).data
    return Scalar(stripped)


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
