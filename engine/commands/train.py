"""`cvnets train`, which is also `main_train.py` and `cvnets-train`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import UserError
from engine.allocator import keep_large_blocks
from engine.commands.arguments import RecipeArguments, is_main, read_arguments, start_logging

if TYPE_CHECKING:
    from engine.recipe import Recipe

log = logging.getLogger(__name__)
USAGE = """usage: cvnets train RECIPE [key=value ...] [-q] [-v]
       cvnets train FOLDER [--model NAME] [--epochs N] [--labels FILE] [--from-scratch] [key=value ...]
       main_train.py --common.config-file RECIPE [--common.override-kwargs key=value ...] [--key value]

RECIPE is a YAML file, or the name of a shipped one (cvnets list recipes).
FOLDER holds your own images: train/ and val/ with a folder per class each, or a folder per class, or
images and a CSV file that names the class of each. A recipe is made for them, and kept in the run folder.
  --model NAME    a network of cvnets list models, from its published weights; usual: mobilevit_xx_small
  --epochs N      how long; usual: by the number of images
  --labels FILE   the CSV file; usual: the one in FOLDER, where there are no class folders
  --from-scratch  without published weights
The run folder is common.results_loc/common.run_label; with common.auto_resume=true the same
command continues an interrupted run exactly.
"""
OF_A_FOLDER = {"model": True, "epochs": True, "labels": True, "from_scratch": False}
# What is short for a key of the recipe.
KEYS = {"epochs": "scheduler.max_epochs", "labels": "dataset.image_folder.labels"}


def run(words: list[str]) -> int:
    """Train; exit code 0."""
    arguments = read_arguments(words, USAGE, OF_A_FOLDER)
    if arguments.recipe is None:
        raise UserError(
            "cvnets train: a recipe is needed; cvnets list recipes shows the shipped ones"
        )
    start_logging(arguments)
    keep_large_blocks()
    from engine.reading import located
    from engine.training import train

    of_folder = os.path.isdir(arguments.recipe)
    recipe = _recipe_for_folder(arguments) if of_folder else _recipe(arguments)
    with located(recipe):
        summary = train(recipe, quiet=arguments.quiet)
    if is_main() and not arguments.quiet:
        print(f"done: {summary['run']}/summary.json, curves.png, predictions.png")
    return 0


def _recipe(arguments: RecipeArguments) -> Recipe:
    from engine.reading import find_recipe, load_recipe

    assert arguments.recipe is not None
    path = find_recipe(arguments.recipe)
    for name in arguments.own:
        option = f"--{name.replace('_', '-')}"
        raise UserError(
            f"{option}: is for a folder of images, and {path} is a recipe; give its keys"
        )
    return load_recipe(path, arguments.overrides)


def _recipe_for_folder(arguments: RecipeArguments) -> Recipe:
    from engine.fine_tuning import fine_tuning, keep_recipe
    from engine.reading import located

    assert arguments.recipe is not None
    own = arguments.own
    shorts = [f"{key}={own[name]}" for name, key in KEYS.items() if name in own]
    made = fine_tuning(
        Path(arguments.recipe),
        [*shorts, *arguments.overrides],
        model=own.get("model"),
        from_scratch="from_scratch" in own,
    )
    with located(made.recipe):
        keep_recipe(made, write=is_main())
    log.info("%s", "\n".join(made.lines))
    return made.recipe
