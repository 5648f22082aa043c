"""`cvnets list`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from config.errors import UserError, suggestion
from config.registry import Registry
from engine.commands.arguments import Arguments


def run(words: list[str]) -> int:
    """Print what is registered, or the shipped recipes; exit code 0."""
    parser = Arguments("cvnets list", description="what can stand in a recipe")
    parser.add_argument("kind", nargs="?", help="models, samplers, losses, recipes, ...")
    parser.add_argument("--plugins", nargs="+", default=[], help="files or modules to import first")
    arguments = parser.parse_args(words)
    kinds = _kinds(arguments.plugins)
    if arguments.kind is None:
        print("cvnets list KIND, where KIND is one of: " + ", ".join([*kinds, "recipes"]))
        return 0
    if arguments.kind == "recipes":
        _recipes()
        return 0
    if arguments.kind not in kinds:
        hint = suggestion(arguments.kind, [*kinds, "recipes"])
        raise UserError(f"cvnets list: no kind is called {arguments.kind!r} - {hint}")
    _table(arguments.kind, kinds[arguments.kind])
    return 0


def _kinds(plugins: list[str]) -> Mapping[str, Registry]:
    from pathlib import Path

    from config.plugins import load_plugins
    from cvnets.kinds import CLASSIFIERS
    from data.kinds import CLASSIFICATION_DATASETS, SAMPLERS
    from engine.kinds import METRICS, OBSERVERS, TASKS
    from engine.recipe import recipe_type
    from loss_fn.kinds import CLASSIFICATION_LOSSES
    from optim.kinds import OPTIMIZERS, SCHEDULES

    recipe_type()
    load_plugins(plugins, folder=Path.cwd())
    return {
        "models": CLASSIFIERS,
        "datasets": CLASSIFICATION_DATASETS,
        "samplers": SAMPLERS,
        "losses": CLASSIFICATION_LOSSES,
        "optimizers": OPTIMIZERS,
        "schedules": SCHEDULES,
        "tasks": TASKS,
        "metrics": METRICS,
        "observers": OBSERVERS,
    }


def _table(kind: str, registry: Registry) -> None:
    table = Table("name", "options", "what it is", title=f"{kind} ({registry.section_key})")
    for name in registry.names():
        entry = registry[name]
        section = registry.section_key.rpartition(".")[0]
        options = f"{section}.{entry.key}.*" if entry.key else ""
        table.add_row(name, options, entry.summary)
    Console().print(table)


def _recipes() -> None:
    from engine.reading import shipped_recipes
    from engine.recipe import RECIPES

    for path in shipped_recipes():
        print(path.relative_to(RECIPES))
