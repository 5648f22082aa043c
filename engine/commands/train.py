"""`cvnets train`, which is also `main_train.py` and `cvnets-train`."""

from __future__ import annotations

from config.errors import UserError
from engine.allocator import keep_large_blocks
from engine.commands.arguments import is_main, read_arguments, start_logging

USAGE = """usage: cvnets train RECIPE [key=value ...] [-q] [-v]
       main_train.py --common.config-file RECIPE [--common.override-kwargs key=value ...] [--key value]

RECIPE is a YAML file, or the name of a shipped one (cvnets list recipes).
The run folder is common.results_loc/common.run_label; with common.auto_resume=true the same
command continues an interrupted run exactly.
"""


def run(words: list[str]) -> int:
    """Train; exit code 0."""
    arguments = read_arguments(words, USAGE)
    if arguments.recipe is None:
        raise UserError(
            "cvnets train: a recipe is needed; cvnets list recipes shows the shipped ones"
        )
    start_logging(arguments)
    keep_large_blocks()
    from engine.reading import load_recipe, located
    from engine.training import train

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    with located(recipe):
        summary = train(recipe, quiet=arguments.quiet)
    if is_main() and not arguments.quiet:
        print(f"done: {summary['run']}/summary.json, curves.png, predictions.png")
    return 0
