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

The weights of a detector are model.detection.pretrained, those of a network of segmentation
model.segmentation.pretrained. A checkpoint that was trained here carries its recipe; keys given on
the command line win over it.
Results go to evaluation.json, predictions.png and the tables of the task in
common.results_loc/common.run_label/evaluations/NAME, where NAME is that of the weights.
With evaluation.TASK.mode=single_image or image_folder and evaluation.TASK.path nothing is measured:
what is found is drawn, see cvnets predict. evaluation.segmentation.save_masks, apply_color_map and
save_overlay_rgb_pred write pictures of every image to folders in common.results_loc/common.run_label.
"""
NO_PICTURES = (
    "none; evaluation.segmentation.save_masks=true, apply_color_map or save_overlay_rgb_pred writes "
    "some"
)


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
        _refuse_other_tasks(recipe)
        for line in _idle(recipe):
            log.warning("%s", line)
        if asked is not None and asked.mode != "validation_set":
            return _draw(recipe) if is_main() else 0
        report = evaluate(recipe, quiet=arguments.quiet)
    if is_main():
        _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
    from engine.metrics.metric import with_unit

    print(f"{report['weights']}: {report['images']} images")
    table = Table("metric", "value")
    for name, value in report["metrics"].items():
        table.add_row(with_unit(name), f"{value:.4g}")
    Console().print(table)
    print(*report["lines"], sep="\n", end="\n" if report["lines"] else "")
    print(f"pictures: {report['folder']}")


def _draw(recipe: Recipe) -> int:
    """Draw what is found in the images that `evaluation.<task>` names."""
    from engine.prediction import draw_asked

    folders, outcomes = draw_asked(recipe)
    unreadable = tell(outcomes, 0.0)
    print("pictures:", ", ".join(map(str, folders)) or NO_PICTURES)
    return exit_code(unreadable)


def _refuse_other_tasks(recipe: Recipe) -> None:
    """UserError if something is asked of a network that does another task."""
    from engine.reading import task_name

    task = task_name(recipe)
    for other, asked in recipe.evaluation:
        given = asked.model_dump(exclude_defaults=True)
        if other != task and given:
            raise UserError(
                f"evaluation.{other}.{next(iter(given))}: the network is one of {task}, not of "
                f"{other}; leave it out"
            )


def _idle(recipe: Recipe) -> list[str]:
    """A line for each given option of `evaluation.<task>` that nothing reads beside the others."""
    from engine.reading import task_name

    task = task_name(recipe)
    given = getattr(recipe.evaluation, task, None)
    asked = given.model_dump(exclude_defaults=True) if given is not None else {}
    rows = (
        ("path", "mode" not in asked, "mode is validation_set"),
        ("overlay_mask_weight", "save_overlay_rgb_pred" not in asked, "no overlay is asked for"),
    )
    return [
        f"evaluation.{task}.{key} has no effect: {reason}"
        for key, idle, reason in rows
        if idle and key in asked
    ]
