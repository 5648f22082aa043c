"""A recipe as text: every option, its value and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from config.options import IF_GIVEN, Options
from engine.recipe import Recipe


def flat(recipe: Options, prefix: str = "") -> dict[str, Any]:
    """`a.b.c` -> value of every option, sorted; sub-sections of unselected components only if given."""
    origins = recipe.origins if isinstance(recipe, Recipe) else None
    result: dict[str, Any] = {}
    _flatten(recipe, prefix, origins, result)
    return dict(sorted(result.items()))


def _flatten(
    options: Options, prefix: str, origins: Mapping[str, str] | None, result: dict[str, Any]
) -> None:
    for name, field in options.fields().items():
        value = getattr(options, name)
        dotted = f"{prefix}.{name}" if prefix else name
        if not isinstance(value, Options):
            result[dotted] = _with_mappings(value)
        elif _shown(options, name, field) or (origins and dotted in origins):
            _flatten(value, dotted, origins, result)


def _with_mappings(value: Any) -> Any:
    """The value with mappings in place of the options in a list."""
    if isinstance(value, Options):
        return {
            name: _with_mappings(getattr(value, name))
            for name, field in value.fields().items()
            if not isinstance(getattr(value, name), Options) or _shown(value, name, field)
        }
    return tuple(map(_with_mappings, value)) if isinstance(value, tuple) else value


def _shown(options: Options, name: str, field: FieldInfo) -> bool:
    """Whether a section that nobody gave is worth its lines."""
    return field.json_schema_extra != IF_GIVEN and _selected(options, name)


def _selected(options: Options, name: str) -> bool:
    """Whether sub-section `name` belongs to the section itself or to a selected component."""
    optional, chosen = False, False
    for field, registries in options.choices.items():
        for registry in registries:
            entries = [registry[entry] for entry in registry.names()]
            optional |= any(name in entry.sections for entry in entries)
            entries = [registry[used] for used in _names(options, field) if used in registry]
            chosen |= any(entry.section_of(options) == name for entry in entries)
    return chosen or not optional


def _names(options: Options, field: str) -> tuple[str, ...]:
    """The component or components that a field selects."""
    value = getattr(options, field)
    return value if isinstance(value, tuple) else (value,) if value else ()


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe with all defaults, each value followed by where it came from; a valid recipe."""
    lines: list[str] = []
    open_sections: list[str] = []
    for key, value in flat(recipe).items():
        *sections, name = key.split(".")
        shared = 0
        while shared < min(len(sections), len(open_sections)) and (
            sections[shared] == open_sections[shared]
        ):
            shared += 1
        lines += [f"{'  ' * depth}{sections[depth]}:" for depth in range(shared, len(sections))]
        open_sections = sections
        origin = recipe.origins.get(key, "default")
        lines.append(f"{'  ' * len(sections)}{name}: {_in_one_line(value)}  # {origin}")
    return "\n".join(lines) + "\n"


def _in_one_line(value: Any) -> str:
    """The value as YAML; text with line breaks stands in double quotes."""
    for style in (None, '"'):
        text = yaml.safe_dump(
            _listed(value), default_flow_style=True, default_style=style, width=10**6
        )
        text = text.strip("\n").removesuffix("\n...")
        if "\n" not in text:
            break
    return text


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def operational_keys(options: type[Options], prefix: str = "") -> set[str]:
    """Dotted keys that say where and how fast, not what: they may change on resume.

    A section that is operational is so with all its keys.
    """
    return {key for key, marked in _marked(options, prefix, False) if marked}


def _marked(options: type[Options], prefix: str, marked: bool) -> Iterator[tuple[str, bool]]:
    """All dotted keys, and whether they or a section around them are operational."""
    for name, field in options.fields().items():
        dotted = f"{prefix}.{name}" if prefix else name
        extra = field.json_schema_extra
        own = marked or (isinstance(extra, dict) and bool(extra.get("operational")))
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            yield from _marked(field.annotation, dotted, own)
        else:
            yield dotted, own
