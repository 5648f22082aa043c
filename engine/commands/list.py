"""`cvnets list`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console
from rich.table import Table

from config.errors import UserError, suggestion
from config.plugins import load_plugins
from config.registry import ANY, Registry
from engine.commands.arguments import Arguments

FURTHER = ("weights", "recipes")  # what can be listed besides the registries


def run(words: list[str]) -> int:
    """Print what is registered, or the shipped recipes; exit code 0."""
    parser = Arguments("cvnets list", description="what can stand in a recipe")
    parser.add_argument("kind", nargs="?", help="models, weights, samplers, losses, recipes, ...")
    parser.add_argument("pattern", nargs="?", help="models, weights: names, e.g. 'mobilevit_v2_*'")
    parser.add_argument("--plugins", nargs="+", default=[], help="files or modules to import first")
    arguments = parser.parse_args(words)
    if arguments.kind == "models":
        _models(arguments.pattern or "*", arguments.plugins)
        return 0
    if arguments.kind == "weights":
        _weights(arguments.pattern or "*")
        return 0
    if arguments.pattern is not None:
        text = "takes no pattern, only models and weights do"
        raise UserError(f"cvnets list {arguments.kind}: {text}")
    kinds = registries(arguments.plugins)
    if arguments.kind is None:
        print("cvnets list KIND, where KIND is one of: " + ", ".join([*kinds, *FURTHER]))
        return 0
    if arguments.kind == "recipes":
        _recipes()
        return 0
    if arguments.kind not in kinds:
        hint = suggestion(arguments.kind, [*kinds, *FURTHER])
        raise UserError(f"cvnets list: no kind is called {arguments.kind!r} - {hint}")
    _table(arguments.kind, kinds[arguments.kind])
    return 0


def registries(plugins: Sequence[str] = ()) -> Mapping[str, Registry]:
    """Kind of component -> its registry, with what installed packages and `plugins` add."""
    from cvnets.kinds import (
        ANCHOR_GENERATORS,
        CLASSIFIERS,
        DETECTORS,
        MATCHERS,
        SEGMENTATION_HEADS,
        SEGMENTORS,
    )
    from data.kinds import (
        CLASSIFICATION_DATASETS,
        DETECTION_DATASETS,
        SAMPLERS,
        SEGMENTATION_DATASETS,
        TRANSFORMS,
    )
    from engine.kinds import METRICS, OBSERVERS, TASKS
    from engine.recipe import recipe_type
    from loss_fn.kinds import (
        CLASSIFICATION_LOSSES,
        DETECTION_LOSSES,
        DISTILLATION_LOSSES,
        SEGMENTATION_LOSSES,
    )
    from optim.kinds import OPTIMIZERS, SCHEDULES

    recipe_type()
    load_plugins(plugins, folder=Path.cwd())
    return {
        "models": CLASSIFIERS,
        "detectors": DETECTORS,
        "anchor_generators": ANCHOR_GENERATORS,
        "matchers": MATCHERS,
        "segmentors": SEGMENTORS,
        "segmentation_heads": SEGMENTATION_HEADS,
        "datasets": CLASSIFICATION_DATASETS,
        "detection_datasets": DETECTION_DATASETS,
        "segmentation_datasets": SEGMENTATION_DATASETS,
        "samplers": SAMPLERS,
        "transforms": TRANSFORMS,
        "losses": CLASSIFICATION_LOSSES,
        "detection_losses": DETECTION_LOSSES,
        "segmentation_losses": SEGMENTATION_LOSSES,
        "distillation_losses": DISTILLATION_LOSSES,
        "optimizers": OPTIMIZERS,
        "schedules": SCHEDULES,
        "tasks": TASKS,
        "metrics": METRICS,
        "observers": OBSERVERS,
    }


def _table(kind: str, registry: Registry, names: list[str] | None = None) -> None:
    table = Table(title=f"{kind} ({registry.section_key})")
    table.add_column("name, and where its options stand", no_wrap=True)
    table.add_column("what it is")
    section = registry.section_key.rpartition(".")[0]
    for name in registry.names() if names is None else names:
        entry = registry[name]
        options = (f"  {section}.{key}.*" for key in entry.sections)
        table.add_row("\n".join((name, *options)), entry.summary)
    Console().print(table)


def _models(pattern: str, plugins: list[str]) -> None:
    """What is registered, and the variants with their parameters; of other libraries the names."""
    from cvnets import list_models
    from cvnets.kinds import CLASSIFIERS
    from cvnets.models.classification import VARIANT_NAMES

    load_plugins(plugins, folder=Path.cwd())
    registered = [name for name in CLASSIFIERS.names() if fnmatchcase(name, pattern)]
    variants = [name for name in list_models(pattern) if name in VARIANT_NAMES]
    elsewhere = _names_elsewhere(pattern)
    if not (registered or variants or elsewhere):
        hint = suggestion(pattern, [*list_models(), *CLASSIFIERS.names()])
        raise UserError(f"cvnets list models: no name matches {pattern!r} - {hint}")
    if registered:
        _table("models", CLASSIFIERS, registered)
    if variants:
        _variants(variants)
    for name in elsewhere:
        print(name)


def _names_elsewhere(pattern: str) -> list[str]:
    """`timm/*mobile*` -> the networks of timm that match; none for a pattern without a library."""
    from cvnets.kinds import CLASSIFIERS

    library, _, inner = pattern.partition("/")
    if library not in LIBRARIES or f"{library}{ANY}" not in CLASSIFIERS.names():
        return []
    try:
        return [f"{library}/{name}" for name in LIBRARIES[library]() if fnmatchcase(name, inner)]
    except ImportError:
        raise UserError(
            f"cvnets list models: {library} is not installed; pip install {library}"
        ) from None


def _timm_names() -> list[str]:
    import timm

    names: list[str] = timm.list_models()
    return names


def _torchvision_names() -> list[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


LIBRARIES = {"timm": _timm_names, "torchvision": _torchvision_names}


def _variants(names: list[str]) -> None:
    from cvnets import create_model
    from cvnets.models.classification import VARIANT_NAMES
    from cvnets.profile import on_meta

    table = Table(title="variants, with 1000 classes")
    table.add_column("variant", no_wrap=True)
    table.add_column("name and options")
    table.add_column("parameters", justify="right", no_wrap=True)
    for name in names:
        registered, options = VARIANT_NAMES[name]
        given = (f"{key}={value}" for key, value in options.items())
        with on_meta():
            parameters = sum(p.numel() for p in create_model(name).parameters())
        table.add_row(name, " ".join((registered, *given)), f"{parameters:,}")
    Console().print(table)


def _weights(pattern: str) -> None:
    """The named weights that match, and what was published of them."""
    from cvnets.weights.zoo import named_weights

    table = named_weights()
    found = [weights for name, weights in table.items() if fnmatchcase(name, pattern)]
    if not found:
        hint = suggestion(pattern, table)
        raise UserError(f"cvnets list weights: no name matches {pattern!r} - {hint}")
    rows = Table(title="named weights (model.classification.pretrained)")
    rows.add_column("name", no_wrap=True)
    for title in ("release", "data", "published"):
        rows.add_column(title)
    for weights in found:
        figures = (f"{e.metric} {e.value:g} ({e.source})" for e in weights.expected)
        rows.add_row(weights.name, weights.release, weights.dataset, "\n".join(figures))
    Console().print(rows)


def _recipes() -> None:
    from engine.reading import shipped_recipes
    from engine.recipe import RECIPES

    for path in shipped_recipes():
        print(path.relative_to(RECIPES))
