"""A recipe as text: every option, its value and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from config.options import Options, Section
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
    for name in options.fields():
        value = getattr(options, name)
        dotted = f"{prefix}.{name}" if prefix else name
        if not isinstance(value, Options):
            result[dotted] = value
        elif _selected(options, name) or (origins and dotted in origins):
            _flatten(value, dotted, origins, result)


def _selected(options: Options, name: str) -> bool:
    """Whether sub-section `name` belongs to the section itself or to its selected component."""
    if not isinstance(options, Section) or not options.choices:
        return True
    entries = [registry[entry] for registry in options.choices for entry in registry.names()]
    if not any(name in entry.sections for entry in entries):
        return True
    chosen = [registry[options.name] for registry in options.choices if options.name in registry]
    return any(entry.section_of(options) == name for entry in chosen)


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
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def operational_keys(options: type[Options], prefix: str = "") -> set[str]:
    """Dotted keys that say where and how fast, not what: they may change on resume."""
    found: set[str] = set()
    for name, field in options.fields().items():
        dotted = f"{prefix}.{name}" if prefix else name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            found |= operational_keys(field.annotation, dotted)
        elif isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get(
            "operational"
        ):
            found.add(dotted)
    return found
