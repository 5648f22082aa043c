"""One scalar, read by the type that its option declares, and how values are shown in messages."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from config.source import Scalar, Value

NULL_WORDS = ("", "~", "null", "Null", "NULL", "None", "none")
BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}


def read_scalar(data: Any, kind: Any) -> Any:
    """`data` (a Scalar or a Python object) as a bool, int, float or str; None if it is none."""
    return SCALARS[kind](data)


def _bool(data: Any) -> bool | None:
    if isinstance(data, Scalar):
        return BOOLEANS.get(data.text.lower())
    return data if isinstance(data, bool) else None


def _float(data: Any) -> float | None:
    if isinstance(data, Scalar):
        unsigned = data.text.lstrip("+-").lower()
        text = data.text.replace(".", "", 1) if unsigned == ".inf" else data.text
        try:
            number = float(text)
        except ValueError:
            return None
        # 1e999 is a slip of the pen, not infinity
        slip = math.isinf(number) and "inf" not in unsigned
        return None if math.isnan(number) or slip else number
    return float(data) if isinstance(data, int | float) and not isinstance(data, bool) else None


def _int(data: Any) -> int | None:
    if isinstance(data, Scalar):
        try:
            return int(data.text, 10)
        except ValueError:
            data = _float(data)
    if isinstance(data, float) and data.is_integer():
        return int(data)
    return data if isinstance(data, int) and not isinstance(data, bool) else None


def _str(data: Any) -> str | None:
    if isinstance(data, Scalar):
        return None if data.plain and data.text in ("~", "null", "Null", "NULL") else data.text
    known = isinstance(data, str | int | float | os.PathLike) and not isinstance(data, bool)
    return str(data) if known else None


SCALARS: dict[Any, Callable[[Any], Any]] = {bool: _bool, int: _int, float: _float, str: _str}


def plain(value: Value) -> Any:
    """The value as Python objects, scalars read as YAML 1.2 would."""
    if isinstance(value.data, dict):
        return {key: plain(item) for key, item in value.data.items()}
    if isinstance(value.data, list):
        return [plain(item) for item in value.data]
    if not isinstance(value.data, Scalar) or not value.data.plain:
        return value.data.text if isinstance(value.data, Scalar) else value.data
    if is_null(value):
        return None
    if value.data.text.lower() in ("true", "false"):
        return value.data.text.lower() == "true"
    whole = _int(value.data)
    number = _float(value.data) if whole is None else whole
    return value.data.text if number is None else number


def is_null(value: Value) -> bool:
    """Whether the value means "nothing"."""
    if isinstance(value.data, Scalar):
        # "None" in quotes still means none: it is how the official YAML files had to write it
        return value.data.text in NULL_WORDS and (value.data.plain or value.data.text == "None")
    return value.data is None


def shown(value: Value) -> str:
    """`'text' given`, for messages."""
    if isinstance(value.data, dict):
        return "a section given"
    if isinstance(value.data, Scalar):
        nothing = value.data.plain and not value.data.text
        return "nothing given" if nothing else f"{value.data.text!r} given"
    return "nothing given" if value.data is None else f"{plain(value)!r} given"


WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_PLURALS = {bool: "true or false values", int: "whole numbers", float: "numbers", str: "texts"}


def type_word(annotation: Any) -> str:
    """What a message calls a type."""
    if annotation in WORDS:
        return WORDS[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(str(choice) for choice in parts)
    if origin in (list, tuple):
        inner = _PLURALS.get(parts[0], f"lists of {len(get_args(parts[0]))}")
        many = origin is list or parts[-1] is Ellipsis
        return f"a list of {inner}" if many else f"{len(parts)} {inner}"
    return getattr(annotation, "__name__", str(annotation))
