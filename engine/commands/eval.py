"""`cvnets eval`, which is also `main_eval.py` and `cvnets-eval`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from config.errors import UserError
from engine.allocator import keep_large_blocks
from engine.commands.arguments import is_main, read_arguments, start_logging
from engine.commands.predict import exit_code, tell

if TYPE_CHECKING:
    from engine.recipe import Recipe

log = logging.getLogger(__name__)
USAGE = """usage: cvnets eval RECIPE model.classification.pretrained=WEIGHTS [key=value ...] [-q] [-v]
       cvnets eval CHECKPOINT.pt [key=value ...]
       main_eval.py --common.config-file RECIPE --model.classification.pretrained WEIGHTS

The weights of a detector are model.detection.pretrained. A checkpoint that was trained here carries
its recipe; keys given on the command line win over it.
Results go to evaluation.json, predictions.png and the tables of the task in
common.results_loc/common.run_label/evaluations/NAME, where NAME is that of the weights.
With evaluation.detection.mode=single_image or image_folder and evaluation.detection.path nothing is
measured: what is found is drawn, see cvnets predict.
"""
PERCENT = ("top", "coco_map")  # metrics whose names begin so


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
    from engine.reading import load_recipe, located, task_name

    if arguments.recipe.endswith((".pt", ".pth", ".safetensors")):
        recipe, _ = recipe_of(arguments.recipe, arguments.overrides)
    else:
        recipe = load_recipe(arguments.recipe, arguments.overrides)
    for note in recipe.notes:
        log.info("%s", note)
    asked = getattr(recipe.evaluation, task_name(recipe), None)
    with located(recipe):
        if asked is not None and asked.mode != "validation_set":
            return _draw(recipe) if is_main() else 0
        report = evaluate(recipe, quiet=arguments.quiet)
    if is_main():
        _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
    print(f"{report['weights']}: {report['images']} images")
    table = Table("metric", "value")
    for name, value in report["metrics"].items():
        table.add_row(f"{name} (%)" if name.startswith(PERCENT) else name, f"{value:.4g}")
    Console().print(table)
    print(*report["lines"], sep="\n", end="\n" if report["lines"] else "")
    print(f"pictures: {report['folder']}")


def _draw(recipe: Recipe) -> int:
    """Draw what is found in the images that `evaluation.<task>` names."""
    from engine.prediction import draw_asked

    folder, outcomes = draw_asked(recipe)
    unreadable = tell(outcomes, 0.0)
    print(f"pictures: {folder}")
    return exit_code(unreadable)
