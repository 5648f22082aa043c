"""Read a recipe: default < file < command line, all mistakes at once, before a device is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.errors import Problem, RecipeError, UserError, near, unknown_name
from config.legacy import translate
from config.plugins import KEY as PLUGINS
from config.plugins import load_plugins
from config.reading import Reader
from config.releases import apply_release
from config.source import (
    PYTHON,
    Scalar,
    Value,
    flatten,
    from_mapping,
    load_file,
    override,
    put,
)
from cvnets.kinds import ANCHOR_GENERATORS, CLASSIFIERS, MATCHERS, SEGMENTATION_HEADS
from data.kinds import SAMPLERS
from engine.kinds import METRICS, OBSERVERS, TASKS
from engine.recipe import RECIPES, Recipe, recipe_type
from loss_fn.section import COMPOSITE, DISTILLATION, RANGE_AUGMENT
from optim.kinds import SCHEDULES

TEACHER_WEIGHTS = "teacher.model.classification.pretrained"
FEW = 12  # parts of a metric that a message lists


def load_recipe(
    source: str | Path | Mapping[str, Any] | None,
    overrides: Iterable[str] = (),
    *,
    plugins: bool = True,
    place: str = PYTHON,
) -> Recipe:
    """The checked recipe of a file (a path, or a name below config/) or of a mapping.

    A mapping may be nested, have dotted keys, or both; messages call it `place`. `overrides` are
    `a.b=value` words, which win over the source. `plugins=False` drops `common.plugins` of the
    source itself, for recipes found in files of others. Raises RecipeError with every mistake, or
    UserError.
    """
    problems: list[Problem] = []
    folder = Path.cwd()
    if source is None:
        tree = Value({}, place)
    elif isinstance(source, Mapping):
        tree = from_mapping(source, problems, place)
    else:
        path = find_recipe(source)
        folder = path.parent
        tree = load_file(path, problems)
    if not isinstance(tree.data, dict):
        text = "a recipe is a mapping of sections, e.g. model, optim, scheduler"
        raise RecipeError([Problem(tree.place, "", text)])
    if not plugins:
        _drop_plugins(tree)
    override(tree, overrides, problems)
    notes = apply_release(tree, problems) + translate(tree)
    _import_plugins(tree, folder, problems)
    return _read(tree, problems, notes)


def find_recipe(source: str | Path) -> Path:
    """The recipe at this path, or with this name below config/ (`.yaml` may be left out)."""
    names = [str(source), f"{source}.yaml"]
    for place in [Path(name) for name in names] + [RECIPES / name for name in names]:
        if os.path.isfile(place):
            return place
    if os.path.isdir(source):
        raise UserError(f"{source}: is a folder; give a recipe, a YAML file")
    known = [str(path.relative_to(RECIPES)) for path in shipped_recipes()]
    known += [str(path) for path in Path(source).parent.glob("*.yaml")]
    found = near(str(source).removeprefix("config/"), known)
    hint = f"did you mean {' or '.join(found)}?" if found else "cvnets list recipes shows those"
    raise UserError(f"{source}: no such recipe here or among the shipped ones - {hint}")


def shipped_recipes() -> list[Path]:
    """The recipes that are installed with the package."""
    return sorted(RECIPES.rglob("*.yaml"))


def _import_plugins(tree: Value, folder: Path, problems: list[Problem]) -> None:
    """Import what `common.plugins` names, and put whole paths there, good from any folder."""
    common = tree.data.get("common")
    given = common.data.get("plugins") if common and isinstance(common.data, dict) else None
    names = Reader().read_value(given, tuple[str, ...], PLUGINS) if given else ()
    try:
        paths = load_plugins(names or (), folder=folder)
    except UserError as error:
        if given is None:
            raise
        text = str(error).removeprefix(f"{PLUGINS}: ")
        raise RecipeError([*problems, Problem(given.place, PLUGINS, text)]) from error
    if common and given and names:
        items = [Value(Scalar(path, plain=False), given.place) for path in paths]
        common.data["plugins"] = Value(items, given.place)


def _drop_plugins(tree: Value) -> None:
    common = tree.data.get("common")
    if common and isinstance(common.data, dict):
        common.data.pop("plugins", None)


def _read(tree: Value, problems: list[Problem], notes: list[str]) -> Recipe:
    kind, reader = recipe_type(), Reader()
    recipe: Recipe | None = reader.read(tree, kind)
    wrong = {problem.key for problem in reader.problems}
    rest = recipe or Reader().read(_without(tree, wrong), kind)
    problems = problems + reader.problems
    if rest is not None:
        rest._origins.update(reader.origins)
        rest._notes = tuple(notes)
        problems += _cross_checks(rest, wrong)
    if problems or recipe is None:
        raise RecipeError(problems)
    return recipe


def _without(tree: Value, keys: set[str]) -> Value:
    """The tree without some keys and what stands below them; a list goes as a whole."""
    keys = {key.partition("[")[0] for key in keys}
    kept: dict[str, Value] = {}
    for dotted, value in flatten(tree).items():
        if not any(f"{dotted}.".startswith(f"{key}.") for key in keys):
            put(kept, dotted, value, "", None)
    return Value(kept, tree.place)


def task_name(recipe: Recipe) -> str:
    """The task of a recipe: `dataset.category`, or what the model sections say."""
    model = recipe.model
    named = [task for task in ("detection", "segmentation") if getattr(model, task).name]
    return recipe.dataset.category or next(iter(named), "classification")


def _cross_checks(recipe: Recipe, wrong: Collection[str] = ()) -> list[Problem]:
    """Mistakes that show only when two options are seen together, or need a registry.

    Options in `wrong` have been reported; what depends on them is not judged.
    """
    stats, common = recipe.stats, recipe.common
    found: list[tuple[tuple[str, ...], str]] = []
    for key, names, registry in (
        ("dataset.category", (task_name(recipe),), TASKS),
        ("stats.train", stats.train, METRICS),
        ("stats.val", stats.val, METRICS),
        ("common.observers", common.observers, OBSERVERS),
        ("model.segmentation.seg_head", (recipe.model.segmentation.seg_head,), SEGMENTATION_HEADS),
    ):
        unknown = [name for name in names if name not in registry]
        found += [((key,), unknown_name(registry.kind, name, registry.names())) for name in unknown]
    found += _unfit_losses(recipe)
    metric = stats.checkpoint_metric
    if metric.partition(".")[0] not in (*stats.val, "loss"):
        measured = ", ".join(dict.fromkeys(("loss", *stats.val)))
        text = f"{metric!r} is not measured (stats.val gives {measured}) - add it to stats.val"
        found.append((("stats.checkpoint_metric", "stats.val"), text))
    found += _unfit_metrics(recipe)
    found += _wrong_direction(recipe)
    if common.resume and common.finetune:
        text = "cannot be given together with common.resume - leave one out"
        found.append((("common.finetune", "common.resume"), text))
    found += _unbuildable(recipe)
    return [
        Problem(place_of(recipe, keys[0]) or "default", keys[0], text)
        for keys, text in found
        if not any(f"{other}.".startswith(f"{key}.") for key in keys for other in wrong)
    ]


def _unfit_losses(recipe: Recipe) -> list[tuple[tuple[str, ...], str]]:
    """Losses of another task than the recipe's, and a teacher for a task that has none."""
    kind, section = _kind(recipe), recipe.loss
    asked: list[tuple[str, str | None]] = [("loss.category", section.category)]
    if section.category == COMPOSITE:
        entries = enumerate(section.composite_loss)
        asked = [(f"loss.composite_loss[{n}].loss_category", e.loss_category) for n, e in entries]
        asked = [(key, category) for key, category in asked if category != RANGE_AUGMENT]
        if not asked:
            text = "no losses are listed; each needs loss_category, loss_weight and its options"
            return [(("loss.composite_loss", "loss.category"), text)]
    found: list[tuple[tuple[str, ...], str]] = []
    for key, category in asked:
        if category == DISTILLATION:
            pretrained = recipe.teacher.model.classification.pretrained
            if kind != "classification":
                text = f"a teacher classifies, but the task is {task_name(recipe)}; take it out"
                found.append(((key, "dataset.category"), text))
            elif pretrained is None:
                text = "not given; a teacher needs weights, or it teaches noise"
                found.append(((TEACHER_WEIGHTS,), text))
        elif kind and category not in (None, kind):
            text = f"{category}, but the task is {kind}, and so is its loss; take it out"
            found.append(((key,), text))
    return found


def _kind(recipe: Recipe) -> str:
    """What the task of a recipe gives to losses and metrics; "" if it does not say."""
    task = task_name(recipe)
    return getattr(TASKS[task].registered, "kind", "") if task in TASKS else ""


def _unfit_metrics(recipe: Recipe) -> list[tuple[tuple[str, ...], str]]:
    """Metrics that another task feeds, and a checkpoint metric that names a part that is not there."""
    found: list[tuple[tuple[str, ...], str]] = []
    chosen, _, part = recipe.stats.checkpoint_metric.partition(".")
    task, kind = task_name(recipe), _kind(recipe)
    for name in dict.fromkeys((*recipe.stats.val, *recipe.stats.train)):
        if name not in METRICS:
            continue
        try:
            metric = METRICS.build(recipe.stats, name=name)
        except UserError as error:
            place, _, text = str(error).partition(": ")
            found.append(((place,), text))
            continue
        measured, parts = getattr(metric, "task", ""), getattr(metric, "parts", None)
        if measured and kind and measured != kind:
            key = "stats.val" if name in recipe.stats.val else "stats.train"
            text = f"{name} measures {measured}, but the task is {task}; take it out"
            found.append(((key,), text))
        if name in recipe.stats.train and getattr(metric, "keeps_scores", False):
            text = f"{name} keeps all scores, and so would every saved state; put it in stats.val"
            found.append((("stats.train",), text))
        if name == chosen and parts and part not in parts:
            text = f"{name} has no part {part!r}; choose one of "
            parts = parts if len(parts) <= FEW else near(part, parts) or (*parts[:FEW], "...")
            text += ", ".join(f"{name}.{each}" if each else name for each in parts)
            found.append((("stats.checkpoint_metric",), text))
    return found


def _wrong_direction(recipe: Recipe) -> list[tuple[tuple[str, ...], str]]:
    """A checkpoint metric that would keep the worst weights instead of the best."""
    name = recipe.stats.checkpoint_metric.partition(".")[0]
    if name not in METRICS or name not in (*recipe.stats.val, "loss"):
        return []
    metric = METRICS.build(recipe.stats, name=name)
    larger = getattr(metric, "larger_is_better", None)
    if larger is None or larger == recipe.stats.checkpoint_metric_max:
        return []
    text = f"{name} is better when it is {'larger' if larger else 'smaller'}; set it to {str(larger).lower()}"
    keys = ("stats.checkpoint_metric_max", "stats.checkpoint_metric", "stats.val")
    return [(keys, text)]


def _unbuildable(recipe: Recipe) -> list[tuple[tuple[str, ...], str]]:
    """What the parts that need neither data nor a device say of their options."""
    found: list[tuple[tuple[str, ...], str]] = []
    parts: tuple[Callable[[], object], ...] = (
        lambda: SCHEDULES.build(recipe.scheduler, plan=recipe.scheduler.plan()),
        lambda: SAMPLERS.build(recipe.sampler, batch_size=recipe.dataset.train_batch_size0),
        lambda: CLASSIFIERS.options_of(recipe.model.classification),
        lambda: CLASSIFIERS.options_of(recipe.teacher.model.classification),
        lambda: ANCHOR_GENERATORS.build(recipe.anchor_generator),
        lambda: MATCHERS.build(recipe.matcher),
    )
    for build in parts:
        try:
            build()
        except UserError as error:
            key, _, text = str(error).partition(": ")
            found.append(((key,), text))
    return found


def place_of(recipe: Recipe, key: str) -> str:
    """Where `key`, or else the section around it, was given; "" if nowhere."""
    while key and key not in recipe.origins:
        key = key.rpartition(".")[0]
    return recipe.origins.get(key, "")


@contextmanager
def located(recipe: Recipe) -> Iterator[None]:
    """Errors raised inside that begin with a key of the recipe get the place where it was given."""
    try:
        yield
    except RecipeError:
        raise
    except UserError as error:
        key = re.match(r"\w+(\.\w+(\[\d+\])?)+(?=: )", str(error))
        place = place_of(recipe, key[0]) if key else ""
        error.args = (f"{place}: {error}",) if place else error.args
        raise
