"""`cvnets eval`, which is also `main_eval.py` and `cvnets-eval`."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.table import Table

from config.errors import UserError
from engine.allocator import keep_large_blocks
from engine.commands.arguments import is_main, read_arguments, start_logging

log = logging.getLogger(__name__)
USAGE = """usage: cvnets eval RECIPE model.classification.pretrained=WEIGHTS [key=value ...] [-q] [-v]
       cvnets eval CHECKPOINT.pt [key=value ...]
       main_eval.py --common.config-file RECIPE --model.classification.pretrained WEIGHTS

A checkpoint that was trained here carries its recipe; keys given on the command line win over it.
Results go to evaluation.json and predictions.png in
common.results_loc/common.run_label/evaluations/NAME, where NAME is that of the weights.
"""


def run(words: list[str]) -> int:
    """Evaluate and print a table; exit code 0."""
    arguments = read_arguments(words, USAGE)
    if arguments.recipe is None:
        raise UserError(
            "cvnets eval: a recipe or a checkpoint is needed, e.g. cvnets eval checkpoint_best.pt"
        )
    start_logging(arguments)
    keep_large_blocks()
    from engine.evaluation import evaluate
    from engine.pretrained import recipe_of
    from engine.reading import load_recipe, located

    if arguments.recipe.endswith((".pt", ".pth", ".safetensors")):
        recipe, _ = recipe_of(arguments.recipe, arguments.overrides)
    else:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
    for note in recipe.notes:
        log.info("%s", note)
    with located(recipe):
        report = evaluate(recipe, quiet=arguments.quiet)
    if is_main():
        print(f"{report['weights']}: {report['images']} images")
        table = Table("metric", "value")
        for name, value in report["metrics"].items():
            table.add_row(f"{name} (%)" if name.startswith("top") else name, f"{value:.4g}")
        Console().print(table)
        print(f"pictures: {report['folder']}/predictions.png")
    return 0
