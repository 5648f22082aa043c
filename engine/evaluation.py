"""Evaluate a checkpoint as the recipe says."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from config.errors import UserError
from engine.checkpoint import write_json
from engine.distributed import StopSignal, join_world
from engine.observers.observer import EvaluationRecord, build_observers
from engine.parts import build_evaluator, build_sampler, build_task, place, use_numerics
from engine.precision import Precision
from engine.pretrained import PRETRAINED, check_complete
from engine.recipe import Recipe
from engine.run_folder import make_folder
from engine.task import Task

EVALUATIONS = "evaluations"


def evaluate(recipe: Recipe, *, quiet: bool = False) -> dict[str, Any]:
    """Evaluate `model.classification.pretrained` on the test (else the validation) split.

    Returns {"metrics": ..., "images": ..., "weights": ..., "folder": ...}, and writes it to
    evaluation.json in `evaluations/<name of the weights>` of the run folder, with predictions.png
    beside it.
    """
    weights = recipe.model.classification.pretrained
    if weights is None:
        raise UserError(
            f"{PRETRAINED}: evaluation needs weights; set it to a file, or give "
            "a checkpoint in place of the recipe"
        )
    task = build_task(recipe)
    source = task.build_source("test")
    size = build_sampler(recipe, recipe.dataset.eval_batch_size0).base
    with join_world(recipe.ddp, recipe.common.device) as world, StopSignal(world) as stop:
        use_numerics(recipe)
        precision = Precision(recipe.common, world.device)
        model = place(task.build_model(), recipe, world)
        check_weights(task)
        loss = task.build_loss().to(world.device)
        evaluator = build_evaluator(task, source, size, loss, precision, world, stop)
        # made now, not after hours of evaluation; beside it are those of other weights
        folder = (
            make_folder(recipe, below=f"{EVALUATIONS}/{Path(weights).stem}")
            if world.is_main
            else None
        )
        try:
            found = evaluator.evaluate(model)
        finally:
            evaluator.loader.close()
        report = {"metrics": found.metrics, "images": found.images, "weights": weights}
        if folder is not None:
            report["folder"] = str(folder)
            write_json(folder / "evaluation.json", report)
            record = EvaluationRecord(
                "Eval", 0, 0, found.metrics, found.images, examples=found.examples
            )
            build_observers(["console", "pictures"], folder=folder, quiet=quiet).on_evaluation(
                record
            )
        return report


def check_weights(task: Task) -> None:
    """UserError unless the task has loaded whole weights, for the classes of the data in order."""
    key, report = PRETRAINED, task.weights
    if report is None:
        raise UserError(f"{key}: the task {type(task).__name__} loads no weights to evaluate")
    check_complete(report, key)
    trained = report.metadata.get("classes") or list(task.class_names)
    if list(task.class_names) != trained:
        pairs = zip_longest(trained, task.class_names)
        number, (theirs, ours) = next((n, p) for n, p in enumerate(pairs) if p[0] != p[1])
        raise UserError(
            f"{key}: {report.path}: class {number} is {theirs!r} in the weights and {ours!r} in the "
            "data; evaluate on the classes that it was trained on"
        )
