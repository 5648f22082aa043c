"""`cvnets profile`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from config.errors import Problem, RecipeError, UserError, near
from config.plugins import load_plugins
from engine.commands.arguments import Arguments, RecipeArguments, read_arguments, start_logging

if TYPE_CHECKING:
    from torch import nn

    from cvnets.profile import Profile

log = logging.getLogger(__name__)
CLASSES = 1000  # where nothing says how many
CLASSES_OF_PIXELS = 150  # the same in segmentation, as in ADE20K: its masks have 8 bits
SIZE = (256, 256)  # of a network by name
USAGE = """usage: cvnets profile NAME [option=value ...] [--size SIZE] [--json FILE] [-q]
       cvnets profile [RECIPE] [key=value ...] [--size SIZE] [--json FILE] [-q] [-v]

Parameters, multiply-accumulates and activations of a network for one image, stage by stage; -q
prints the totals only.
NAME is one of cvnets list models, with the options of cvnets.create_model, e.g. n_classes=10;
RECIPE is a YAML file, or the name of a shipped one (cvnets list recipes).
SIZE is the image in pixels, 256 or 256x192 (height x width); without it the base size of the
recipe's sampler is taken, and 256x256 for a NAME. FILE receives the same figures as JSON.
"""
COUNTED = """MACs: multiply-accumulates of convolutions and matrix products, attention included.
Activations: elements of the outputs of the same layers."""


@dataclass(frozen=True)
class Subject:
    """What is profiled: how to build it, for how many classes, at which (height, width)."""

    name: str
    build: Callable[[], nn.Module]
    classes: int
    size: tuple[int, int]


def run(words: list[str]) -> int:
    """Print the model card; exit code 0."""
    parser = Arguments("cvnets profile", add_help=False, allow_abbrev=False)
    parser.add_argument("--size", type=image_size)
    parser.add_argument("--json", type=Path)
    own, rest = parser.parse_known_args(words)
    arguments = read_arguments(rest, USAGE)
    start_logging(arguments)
    subject = _subject(arguments)
    from cvnets.profile import profile_built

    card = profile_built(subject.build, own.size or subject.size)
    print(_totals(subject, card))
    if not arguments.quiet:
        Console().print(_table(card))
        print(COUNTED)
    if own.json is not None:
        _write(own.json, subject, card)
    return 0


def image_size(text: str) -> tuple[int, int]:
    """`256` or `256x192` -> (height, width) in pixels."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    height, width = (int(side or found[1]) for side in found.groups()) if found else (0, 0)
    if not height * width:
        raise UserError(
            f"--size: {text!r} is no image size; give pixels, 256 or 256x192 (height x width)"
        )
    return height, width


def _subject(arguments: RecipeArguments) -> Subject:
    from cvnets.kinds import CLASSIFIERS
    from cvnets.models.classification import VARIANT_NAMES

    load_plugins((), folder=Path.cwd())  # those of installed packages
    name, overrides = arguments.recipe, arguments.overrides
    if name is None and not overrides:
        raise UserError(
            "cvnets profile: a model or a recipe is needed, e.g. cvnets profile mobilevit_small; "
            "cvnets list models and cvnets list recipes show them"
        )
    if name is not None and (name in VARIANT_NAMES or name in CLASSIFIERS):
        return _of_model(name, overrides)
    return _of_recipe(name, overrides)


def _of_model(name: str, overrides: list[str]) -> Subject:
    from config.scalars import plain
    from config.source import COMMAND_LINE, Value, flatten, override
    from cvnets import create_model

    tree = Value({}, COMMAND_LINE)
    problems: list[Problem] = []
    override(tree, overrides, problems)
    if problems:
        raise RecipeError(problems)
    options = {"n_classes": CLASSES} | {key: plain(value) for key, value in flatten(tree).items()}
    return Subject(name, lambda: create_model(name, **options), options["n_classes"], SIZE)


def _of_recipe(name: str | None, overrides: list[str]) -> Subject:
    from engine import build_model
    from engine.parts import build_sampler
    from engine.pretrained import pretrained_key
    from engine.reading import load_recipe, located, task_name
    from engine.resolved import flat

    if name is not None:
        _check_exists(name)
    recipe = load_recipe(name, overrides)
    for note in recipe.notes:
        log.info("%s", note)
    section = pretrained_key(recipe).rpartition(".")[0]  # of the whole network
    usual = CLASSES_OF_PIXELS if task_name(recipe) == "segmentation" else CLASSES
    classes = flat(recipe)[f"{section}.n_classes"] or usual
    # weights that the recipe starts from do not change what is counted
    no_weights = [f"{key}.pretrained=null" for key in (section, "model.classification")]
    bare = load_recipe(name, [*overrides, f"{section}.n_classes={classes}", *no_weights])
    base = build_sampler(recipe, recipe.dataset.train_batch_size0).base

    def build() -> nn.Module:
        with located(recipe):
            return build_model(bare)

    title = name or recipe.model.classification.name
    return Subject(title, build, classes, (base.height, base.width))


def _check_exists(name: str) -> None:
    """A word that names neither a model nor a recipe may be a slip of either."""
    from cvnets import list_models
    from engine.reading import find_recipe, shipped_recipes
    from engine.recipe import RECIPES

    try:
        find_recipe(name)
    except UserError:
        recipes = [str(path.relative_to(RECIPES).with_suffix("")) for path in shipped_recipes()]
        found = near(name, [*list_models(), *recipes])
        if name.endswith((".yaml", ".yml")) or not found:
            raise
        text = f"no model or recipe is called {name!r} - did you mean {' or '.join(found)}?"
        raise UserError(text) from None


def _totals(subject: Subject, card: Profile) -> str:
    return (
        f"{subject.name}, {subject.classes} classes: {card.parameters:,} parameters; "
        f"one image of {_pixels(card)}: {card.multiply_accumulates:,} multiply-accumulates, "
        f"{card.activations:,} activations"
    )


def _pixels(card: Profile) -> str:
    return f"{card.size[0]}x{card.size[1]}"


def _table(card: Profile) -> Table:
    table = Table()
    table.add_column("stage", overflow="fold")
    table.add_column("output")
    for heading in ("parameters", f"MACs at {_pixels(card)}", f"activations at {_pixels(card)}"):
        table.add_column(heading, justify="right")
    for stage in card.stages:
        output = "x".join(map(str, stage.output)) if stage.output else ""
        numbers = (stage.parameters, stage.multiply_accumulates, stage.activations)
        table.add_row(stage.name, output, *(f"{number:,}" for number in numbers))
    table.add_section()
    totals = (card.parameters, card.multiply_accumulates, card.activations)
    table.add_row("total", "", *(f"{number:,}" for number in totals))
    return table


def _write(path: Path, subject: Subject, card: Profile) -> None:
    content = {"name": subject.name, "classes": subject.classes} | asdict(card)
    try:
        path.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--json: {path} cannot be written: {error.strerror}") from error
