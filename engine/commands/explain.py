"""`cvnets explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.errors import UserError, suggestion
from config.legacy import old_key
from config.options import Options
from config.source import normal_key
from engine.commands.arguments import read_arguments

USAGE = "usage: cvnets explain KEY [RECIPE] [key=value ...]"


def run(words: list[str]) -> int:
    """Print type, default and meaning of an option, and its value and origin in a recipe."""
    if not words or words[0].startswith("-"):
        read_arguments(words, USAGE)  # --help
        raise UserError("cvnets explain: a key is needed, e.g. cvnets explain optim.weight_decay")
    key = normal_key(words[0])
    arguments = read_arguments(words[1:], USAGE)
    from config.plugins import load_plugins
    from engine.reading import load_recipe
    from engine.recipe import recipe_type

    load_plugins((), folder=Path.cwd())
    recipe = None
    if arguments.recipe or arguments.overrides:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
    field = _field(recipe_type(), key)
    if _is_section(field.annotation):
        print(f"{key}: {field.description}")
        for name, inner in field.annotation.fields().items():
            mark = ".*" if _is_section(inner.annotation) else ""
            print(f"  {key}.{name}{mark}: {inner.description}")
        return 0
    print(key)
    print(f"  meaning: {field.description}")
    print(f"  type:    {type_words(field)}")
    print(f"  default: {_shown(field.get_default(call_default_factory=True))}")
    if recipe is not None:
        value: Any = recipe
        for part in key.split("."):
            value = getattr(value, part)
        origin = recipe.origins.get(key, "the default")
        print(f"  value:   {_shown(value)}, from {origin}")
    return 0


def _field(kind: type[Options], key: str) -> FieldInfo:
    parent = kind
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if (today := old_key(key)) is not None:
            text = (
                f"ignored, {today}" if isinstance(today, str) else f"read as {' and '.join(today)}"
            )
            raise UserError(f"{key}: an old key, {text}")
        if part not in parent.fields():
            where = ".".join(parts[:depth]) or "a recipe"
            raise UserError(
                f"{key}: {where} has no key {part!r} - {suggestion(part, parent.fields())}"
            )
        field = parent.fields()[part]
        if depth < len(parts) - 1:
            if not _is_section(field.annotation):
                raise UserError(f"{key}: {'.'.join(parts[: depth + 1])} is not a section")
            parent = field.annotation
    if registries := parent.choices.get(parts[-1]):
        names = ", ".join(sorted({n for registry in registries for n in registry.names()}))
        field = FieldInfo.merge_field_infos(field, description=f"{field.description}: {names}")
    return field


def _is_section(annotation: Any) -> TypeGuard[type[Options]]:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def type_words(field: FieldInfo) -> str:
    """The type of an option in words, with its bounds."""
    words = _type_words(field.annotation)
    bounds = []
    for item in field.metadata:
        for sign, name in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt")):
            if getattr(item, name, None) is not None:
                bounds.append(f"{sign} {getattr(item, name)}")
    return f"{words}, {', '.join(bounds)}" if bounds else words


def _type_words(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (list, tuple):
        inner = [_type_words(arg) for arg in get_args(annotation) if arg is not Ellipsis]
        return f"list of {inner[0]}" if len(set(inner)) == 1 else f"({', '.join(inner)})"
    if get_args(annotation):
        return " | ".join(_type_words(arg) for arg in get_args(annotation))
    return "null" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _shown(value: Any) -> str:
    if value is PydanticUndefined:
        return "none, it must be given"
    if isinstance(value, tuple):
        return str(list(value))
    return "null" if value is None else str(value)
