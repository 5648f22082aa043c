"""Read a tree of values as typed options: every scalar by the type that its option declares."""

from __future__ import annotations

import re
import types
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.errors import Problem, near, suggestion, unknown_name
from config.options import Options, Section
from config.scalars import SCALARS, is_null, plain, read_scalar, shown, type_word
from config.source import COMMAND_LINE, Scalar, Value

_FAILED = object()
_AT_FIELD = re.compile(r"(\w+): ")


class Reader:
    """Reads one tree; mistakes are collected in `problems`, places of given keys in `origins`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[str, str] = {}
        self._root: type[Options] | None = None

    def read(self, tree: Value, kind: type[Options], key: str = "") -> Any:
        """An instance of `kind`, or None when there were problems below `key`."""
        self._root = kind
        result = self._options(tree, kind, key)
        return None if result is _FAILED else result

    def read_value(self, value: Value, annotation: Any, key: str) -> Any:
        """One value of the declared type, or None when there were problems."""
        result = self._value(value, annotation, key)
        return None if result is _FAILED else result

    def _fail(self, value: Value, key: str, text: str) -> Any:
        self.problems.append(Problem(value.place, key, text))
        return _FAILED

    def _options(self, value: Value, kind: type[Options], key: str) -> Any:
        if not isinstance(value.data, dict):
            return self._fail(value, key, _no_section(value, kind, key))
        fields = kind.fields()
        given: dict[str, Any] = {}
        good = True
        for name, item in value.data.items():
            dotted = f"{key}.{name}" if key else name
            if name not in fields:
                self._fail(item, dotted, f"unknown key - {self._unknown(name, kind)}")
                good = False
                continue
            unnamed = name == "name" and issubclass(kind, Section)
            if is_null(item) and (unnamed or _is_section(fields[name].annotation)):
                continue  # as if it were not there
            read = self._value(item, fields[name].annotation, dotted)
            good &= read is not _FAILED
            given[name] = read
            self.origins[dotted] = item.place
        good &= self._check_name(value, kind, key)
        result = self._validate(value, kind, key, given, good)
        return result if good else _FAILED

    def _unknown(self, name: str, kind: type[Options]) -> str:
        """A near key of the section, else the same key of another section, else what is allowed."""
        elsewhere = [] if self._root is None else _keys_called(name, self._root)
        if elsewhere and not near(name, kind.fields()):
            return f"did you mean {' or '.join(elsewhere[:3])}?"
        return suggestion(name, kind.fields())

    def _check_name(self, value: Value, kind: type[Options], key: str) -> bool:
        """A component's name must be registered; only names that are given are checked."""
        item, registries = value.data.get("name"), kind.choices.get("name", ())
        if not registries or item is None:
            return True
        if is_null(item) or not isinstance(item.data, Scalar):
            return True
        if item.data.text == "" == kind.model_fields["name"].default:  # no component at all
            return True
        if any(item.data.text in registry for registry in registries):
            return True
        known = {name for registry in registries for name in registry.names()}
        hints = (registry.hints.get(item.data.text) for registry in registries)
        unknown = unknown_name(registries[0].kind, item.data.text, known)
        text = next((hint for hint in hints if hint), unknown)
        self._fail(item, f"{key}.name" if key else "name", text)
        return False

    def _validate(
        self, value: Value, kind: type[Options], key: str, given: dict[str, Any], good: bool
    ) -> Any:
        """Bounds of all fields; rules about several of them only if each was `good`."""
        try:
            return kind.model_validate({k: v for k, v in given.items() if v is not _FAILED})
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                name = str(detail["loc"][0]) if detail["loc"] else ""
                if name and given.get(name) is not _FAILED:
                    self._report_field(value, kind, key, name, detail)
                elif not name and good:
                    self._report_rule(value, kind, key, detail)
            return _FAILED

    def _report_field(
        self, value: Value, kind: type[Options], key: str, name: str, detail: ErrorDetails
    ) -> None:
        """A value out of bounds."""
        item = value.data.get(name)
        text = _FINDINGS.get(detail["type"], detail["msg"])
        if detail["type"] == "string_pattern_mismatch":
            text = f"not one of the choices - allowed: {kind.fields()[name].description}"
        bounds = {
            k: f"{v:g}" if isinstance(v, float) else v for k, v in detail.get("ctx", {}).items()
        }
        text = text.format(**bounds).replace("Input should", "must")
        if item is not None:
            first, dash, rest = text.partition(" - ")
            text = f"{first} ({shown(item)}){dash}{rest}"
        place = value.place if item is None else item.place
        self.problems.append(Problem(place, f"{key}.{name}" if key else name, text))

    def _report_rule(
        self, value: Value, kind: type[Options], key: str, detail: ErrorDetails
    ) -> None:
        """A rule about several fields; its text starts with the field to blame and a colon."""
        text = detail["msg"].removeprefix("Value error, ")
        match = _AT_FIELD.match(text)
        blamed = match[1] if match and match[1] in kind.fields() else ""
        named = [blamed, *re.findall(r"\w+", text)]
        place = next((value.data[name].place for name in named if name in value.data), value.place)
        dotted = ".".join(part for part in (key, blamed) if part)
        self.problems.append(Problem(place, dotted, text.removeprefix(f"{blamed}: ")))

    def _value(self, value: Value, annotation: Any, key: str) -> Any:
        origin = get_origin(annotation)
        if origin in (Union, types.UnionType):
            return self._union(value, get_args(annotation), key)
        if _is_section(annotation):
            return self._options(value, annotation, key)
        if annotation is Any:
            return plain(value)
        if origin in (list, tuple):
            return self._sequence(value, annotation, key)
        if origin is dict:
            return self._mapping(value, annotation, key)
        if origin is Literal:
            return self._choice(value, get_args(annotation), key)
        return self._scalar(value, annotation, key)

    def _union(self, value: Value, kinds: tuple[Any, ...], key: str) -> Any:
        if type(None) in kinds and is_null(value):
            return None
        kinds = tuple(kind for kind in kinds if kind is not type(None))
        if len(kinds) == 1:
            return self._value(value, kinds[0], key)
        for kind in kinds:
            attempt = Reader()
            result = attempt._value(value, kind, key)
            if result is not _FAILED:
                return result
        words = " or ".join(type_word(kind) for kind in kinds)
        return self._fail(value, key, f"{words} is expected ({shown(value)})")

    def _sequence(self, value: Value, annotation: Any, key: str) -> Any:
        """A list or tuple; one value stands for a list of one, and `a,b` works on the command line."""
        kinds = get_args(annotation)
        fixed = get_origin(annotation) is tuple and kinds[-1] is not Ellipsis
        items = value.data if isinstance(value.data, list) else _split(value)
        if is_null(value) and not fixed:
            items = []
        if not fixed:
            kinds = (kinds[0],) * len(items)
        elif len(items) != len(kinds):
            return self._expected(value, annotation, key)
        read = [
            # a section has keys of its own, which need to say in which one of the list they stand
            self._value(item, kind, f"{key}[{number}]" if _is_section(kind) else key)
            for number, (item, kind) in enumerate(zip(items, kinds, strict=True))
        ]
        if _is_section(kinds[0] if kinds else None):
            self.origins |= {f"{key}[{n}]": item.place for n, item in enumerate(items)}
        if any(item is _FAILED for item in read):
            return _FAILED
        return tuple(read) if get_origin(annotation) is tuple else read

    def _mapping(self, value: Value, annotation: Any, key: str) -> Any:
        if not isinstance(value.data, dict):
            return self._fail(value, key, f"a mapping is expected ({shown(value)})")
        kind = get_args(annotation)[1]
        read = {k: self._value(item, kind, f"{key}.{k}") for k, item in value.data.items()}
        return _FAILED if any(item is _FAILED for item in read.values()) else read

    def _choice(self, value: Value, allowed: tuple[Any, ...], key: str) -> Any:
        if None in allowed and is_null(value):
            return None
        for choice in allowed:
            if choice is not None and read_scalar(value.data, type(choice)) == choice:
                return choice
        text = value.data.text if isinstance(value.data, Scalar) else str(value.data)
        hint = suggestion(text, (str(choice) for choice in allowed))
        return self._fail(value, key, f"not one of the choices ({shown(value)}) - {hint}")

    def _scalar(self, value: Value, annotation: Any, key: str) -> Any:
        if annotation not in SCALARS:
            raise TypeError(f"{key}: options of type {annotation} cannot be read from a recipe")
        # `key:` in a file is null; `key=` on the command line is an empty text
        empty = isinstance(value.data, Scalar) and value.data.plain and not value.data.text
        result = read_scalar(value.data, annotation)
        if result is None or (empty and value.place != COMMAND_LINE):
            return self._expected(value, annotation, key)
        return result

    def _expected(self, value: Value, annotation: Any, key: str) -> Any:
        word = type_word(annotation)
        verb = "are" if word[0].isdigit() else "is"
        return self._fail(value, key, f"{word} {verb} expected ({shown(value)})")


_FINDINGS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "finite_number": "must be finite",
}


def _is_section(annotation: Any) -> TypeGuard[type[Options]]:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _no_section(value: Value, kind: type[Options], key: str) -> str:
    text = f"a section is expected ({shown(value)})"
    if issubclass(kind, Section) and isinstance(value.data, Scalar):
        return f"{text} - did you mean {key}.name?"
    return f"{text} - its keys are {', '.join(kind.fields())}"


def _split(value: Value) -> list[Value]:
    """The parts of `a,b` on the command line; text in quotes is one."""
    if value.place == COMMAND_LINE and isinstance(value.data, Scalar) and value.data.plain:
        return [Value(Scalar(part.strip()), value.place) for part in value.data.text.split(",")]
    return [value]


def _keys_called(name: str, kind: type[Options], prefix: str = "") -> list[str]:
    """All dotted keys below `kind` whose last word is `name`."""
    found = []
    for field, info in kind.fields().items():
        dotted = f"{prefix}.{field}" if prefix else field
        found += [dotted] if field == name else []
        if _is_section(info.annotation):
            found += _keys_called(name, info.annotation, dotted)
    return found
