"""Read a tree of values as typed options: every scalar by the type that its option declares."""

from __future__ import annotations

import re
import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.errors import Problem, near, suggestion
from config.options import Options, Section
from config.scalars import SCALARS, is_null, plain, read_scalar, shown, type_word
from config.source import COMMAND_LINE, Scalar, Value

_FAILED = object()
_AT_FIELD = re.compile(r"(\w+)(?:: |=)")


class Reader:
    """Reads one tree; mistakes are collected in `problems`, places of given keys in `origins`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[str, str] = {}

    def read(self, tree: Value, kind: type[Options], key: str = "") -> Any:
        """An instance of `kind`, or None when there were problems below `key`."""
        result = self._options(tree, kind, key)
        return None if result is _FAILED else result

    def _fail(self, value: Value, key: str, text: str) -> Any:
        self.problems.append(Problem(value.place, key, text))
        return _FAILED

    def _options(self, value: Value, kind: type[Options], key: str) -> Any:
        if not isinstance(value.data, dict):
            if is_null(value):
                value = Value({}, value.place)
            else:
                return self._fail(value, key, f"a section is expected ({shown(value)})")
        fields = kind.fields()
        given: dict[str, Any] = {}
        failed = False
        for name, item in value.data.items():
            dotted = f"{key}.{name}" if key else name
            if name not in fields:
                self._fail(item, dotted, f"unknown key - {self._unknown(name, kind)}")
                failed = True
                continue
            read = self._value(item, fields[name].annotation, dotted)
            failed |= read is _FAILED
            given[name] = read
            self.origins[dotted] = item.place
        failed |= not self._check_name(value, kind, key)
        result = self._validate(value, kind, key, given)
        return _FAILED if failed else result

    def _unknown(self, name: str, kind: type[Options]) -> str:
        return suggestion(name, kind.fields())

    def _check_name(self, value: Value, kind: type[Options], key: str) -> bool:
        """A component's name must be registered; only names that are given are checked."""
        item = value.data.get("name")
        if not (issubclass(kind, Section) and kind.choices) or item is None:
            return True
        known = {name for registry in kind.choices for name in registry.names()}
        if is_null(item) or not isinstance(item.data, Scalar) or item.data.text in known:
            return True
        what = kind.choices[0].kind
        hint = suggestion(item.data.text, known)
        text = f"no {what} is called {item.data.text!r} - {hint}; your own: common.plugins"
        self._fail(item, f"{key}.name" if key else "name", text)
        return False

    def _validate(self, value: Value, kind: type[Options], key: str, given: dict[str, Any]) -> Any:
        good = {name: item for name, item in given.items() if item is not _FAILED}
        try:
            return kind.model_validate(good)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._report(value, key, detail, set(given))
            return _FAILED

    def _report(self, value: Value, key: str, detail: ErrorDetails, given: set[str]) -> None:
        """One of pydantic's findings as a problem, at the place of the innermost known value."""
        name = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "missing" and name in given:
            return  # it was given, and what is wrong with it has been reported
        dotted = ".".join(part for part in (key, name) if part)
        text = detail["msg"].removeprefix("Value error, ")
        text = text[:1].lower() + text[1:] if not text[:2].isupper() else text
        place = value.data[name].place if name in value.data else value.place
        if name in value.data:
            text = f"{text.replace('input should', 'must')} ({_shown(value.data[name])} given)"
        self.problems.append(Problem(place, dotted, text))

    def _value(self, value: Value, annotation: Any, key: str) -> Any:
        origin = get_origin(annotation)
        if origin in (Union, types.UnionType):
            return self._union(value, get_args(annotation), key)
        if isinstance(annotation, type) and issubclass(annotation, Options):
            return self._options(value, annotation, key)
        if annotation is Any:
            return plain(value)
        if origin in (list, tuple):
            return self._sequence(value, annotation, key)
        if origin is dict:
            return self._mapping(value, annotation, key)
        if isinstance(value.data, list | dict):
            return self._fail(
                value, key, f"{type_word(annotation)} is expected ({shown(value)})"
            )
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
        items = value.data if isinstance(value.data, list) else _split(value)
        kinds = get_args(annotation)
        if get_origin(annotation) is tuple and kinds[-1] is not Ellipsis:
            if len(items) != len(kinds):
                text = f"{len(kinds)} values are expected ({shown(value)})"
                return self._fail(value, key, text)
        else:
            kinds = (kinds[0],) * len(items)
        read = [self._value(item, kind, key) for item, kind in zip(items, kinds, strict=True)]
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
        text = value.data.text if isinstance(value.data, Scalar) else str(value.data)
        for choice in allowed:
            if text == str(choice):
                return choice
        hint = suggestion(text, (str(choice) for choice in allowed))
        return self._fail(value, key, f"not one of the choices ({shown(value)}) - {hint}")

    def _scalar(self, value: Value, annotation: Any, key: str) -> Any:
        read = SCALARS.get(annotation)
        if read is None:
            raise TypeError(f"{key}: options of type {annotation} cannot be read from a recipe")
        result = read(value.data)
        if result is None:
            return self._fail(
                value, key, f"{type_word(annotation)} is expected ({shown(value)})"
            )
        return result
