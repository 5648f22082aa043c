"""Read a recipe: default < file < command line, all mistakes at once, before a device is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from config.errors import Problem, RecipeError, UserError, suggestion
from config.legacy import translate
from config.options import Options, Section
from config.plugins import load_plugins
from config.reading import Reader, plain
from config.source import PYTHON, Value, from_mapping, load_file, override
from engine.kinds import METRICS, OBSERVERS, TASKS
from engine.recipe import RECIPES, Recipe, recipe_type


def load_recipe(
    source: str | Path | Mapping[str, Any] | None,
    overrides: Iterable[str] = (),
    *,
    plugins: bool = True,
) -> Recipe:
    """The checked recipe of a file (a path, or a name below config/) or of a mapping.

    A mapping may be nested, have dotted keys, or both. `overrides` are `a.b=value` words, which
    win over the source. `plugins=False` refuses `common.plugins` of the source itself, for
    recipes found in files of others. Raises RecipeError with every mistake, or UserError.
    """
    problems: list[Problem] = []
    folder = Path.cwd()
    if source is None:
        tree = Value({}, PYTHON)
    elif isinstance(source, Mapping):
        tree = from_mapping(source)
    else:
        path = find_recipe(source)
        folder = path.parent
        tree = load_file(path, problems)
    if not isinstance(tree.data, dict):
        raise RecipeError([Problem(tree.place, "", "a recipe is a mapping of sections")])
    if not plugins:
        _drop_plugins(tree)
    override(tree, overrides)
    tree, notes = translate(tree)
    load_plugins(_plugins(tree), folder=folder)
    return _read(tree, problems, notes)


def find_recipe(source: str | Path) -> Path:
    """The recipe at this path, or with this name below config/ (`.yaml` may be left out)."""
    names = [str(source), f"{source}.yaml"]
    for place in [Path(name) for name in names] + [RECIPES / name for name in names]:
        if place.is_file():
            return place
    known = [str(path.relative_to(RECIPES)) for path in shipped_recipes()]
    hint = suggestion(str(source).removeprefix("config/"), known)
    raise UserError(f"{source}: no such recipe here or among the shipped ones - {hint}")


def shipped_recipes() -> list[Path]:
    """The recipes that are installed with the package."""
    return sorted(RECIPES.rglob("*.yaml"))


def _plugins(tree: Value) -> list[str]:
    common = tree.data.get("common")
    given = common.data.get("plugins") if common and isinstance(common.data, dict) else None
    if given is None:
        return []
    names = plain(given)
    return [str(name) for name in (names if isinstance(names, list) else str(names).split(","))]


def _drop_plugins(tree: Value) -> None:
    common = tree.data.get("common")
    if common and isinstance(common.data, dict):
        common.data.pop("plugins", None)


def _read(tree: Value, problems: list[Problem], notes: list[str]) -> Recipe:
    reader = Reader()
    recipe: Recipe | None = reader.read(tree, recipe_type())
    problems = problems + reader.problems
    if recipe is not None:
        recipe._origins.update(reader.origins)
        recipe._notes = tuple(notes)
        problems += _cross_checks(recipe)
    if problems or recipe is None:
        raise RecipeError(problems)
    return recipe


def task_name(recipe: Recipe) -> str:
    """The task of a recipe: `dataset.category`, or what the model sections say."""
    return recipe.dataset.category or "classification"


def _cross_checks(recipe: Recipe) -> list[Problem]:
    """Mistakes that show only when two options are seen together, or need a registry."""
    found: list[tuple[str, str]] = []
    if task_name(recipe) not in TASKS:
        hint = suggestion(task_name(recipe), TASKS.names())
        found.append(("dataset.category", f"no task is called {task_name(recipe)!r} - {hint}"))
    for key, names in (("stats.val", recipe.stats.val), ("stats.train", recipe.stats.train)):
        for name in names:
            if name not in METRICS:
                hint = suggestion(name, METRICS.names())
                found.append((key, f"no metric is called {name!r} - {hint}"))
    for name in recipe.common.observers:
        if name not in OBSERVERS:
            hint = suggestion(name, OBSERVERS.names())
            found.append(("common.observers", f"no observer is called {name!r} - {hint}"))
    metric = recipe.stats.checkpoint_metric
    if metric.partition(".")[0] not in (*recipe.stats.val, "loss"):
        known = ", ".join(recipe.stats.val)
        found.append(
            ("stats.checkpoint_metric", f"{metric!r} is not measured - stats.val: {known}")
        )
    if recipe.common.resume and recipe.common.finetune:
        found.append(("common.finetune", "cannot be given together with common.resume"))
    return [Problem(recipe.origins.get(key, "default"), key, text) for key, text in found]


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
    owners = {
        registry[entry].key: entry for registry in options.choices for entry in registry.names()
    }
    if name not in owners:
        return True
    return any(
        options.name in registry and registry[options.name].key == name
        for registry in options.choices
    )


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
        text = yaml.safe_dump(_listed(value), default_flow_style=True, width=10**6).strip()
        text = text.removesuffix("\n...").removesuffix("...").strip()
        origin = recipe.origins.get(key, "default")
        lines.append(f"{'  ' * len(sections)}{name}: {text}  # {origin}")
    return "\n".join(lines) + "\n"


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
