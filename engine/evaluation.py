"""Evaluate a checkpoint as the recipe says."""

from __future__ import annotations

import logging
from itertools import zip_longest
from pathlib import Path
from typing import Any

from config.errors import UserError
from engine.checkpoint import write_json
from engine.distributed import StopSignal, join_world
from engine.expected import compared
from engine.losses import build_loss
from engine.observers.observer import EvaluationRecord, build_observers
from engine.parts import build_evaluator, build_sampler, build_task, place, use_numerics
from engine.precision import Precision
from engine.pretrained import check_complete
from engine.recipe import Recipe
from engine.resolved import flat
from engine.run_folder import make_folder
from engine.task import Task

log = logging.getLogger(__name__)
EVALUATIONS = "evaluations"


def evaluate(recipe: Recipe, *, quiet: bool = False) -> dict[str, Any]:
    """Evaluate the weights of the whole network (`model.<task>.pretrained`) on the test split.

    Without a test split it is the validation split. Returns {"metrics": ..., "images": ...,
    "weights": ..., "folder": ..., "lines": ...} and, where the recipe expects a figure, "expected"
    with both beside each other; `lines` is the gist of the task's reports. All but the lines goes to
    evaluation.json in `evaluations/<name of the weights>` of the run folder, with predictions.png
    and the task's reports beside it.
    """
    task = build_task(recipe)
    weights = flat(recipe)[task.pretrained]
    if weights is None:
        raise UserError(
            f"{task.pretrained}: evaluation needs weights; set it to a file, or give "
            "a checkpoint in place of the recipe"
        )
    source = task.build_source("test")
    keep = task.keeper(source)
    size = build_sampler(recipe, recipe.dataset.eval_batch_size0).base
    with join_world(recipe.ddp, recipe.common.device) as world, StopSignal(world) as stop:
        use_numerics(recipe)
        precision = Precision(recipe.common, world.device)
        model = place(task.build_model(), recipe, world)
        check_weights(task)
        loss = build_loss(task).to(world.device)
        evaluator = build_evaluator(task, source, size, loss, precision, world, stop)
        # made now, not after hours of evaluation; beside it are those of other weights
        folder = (
            make_folder(recipe, below=f"{EVALUATIONS}/{_label(weights)}") if world.is_main else None
        )
        try:
            found = evaluator.evaluate(model, keep)
        finally:
            evaluator.loader.close()
        report = {"metrics": found.metrics, "images": found.images, "weights": weights}
        if beside := compared(recipe.expected, found.metrics, found.images):
            report["expected"] = beside
            log.info("%s", beside["text"])
        if folder is not None:
            report["folder"] = str(folder)
            write_json(folder / "evaluation.json", report)
            record = EvaluationRecord(
                "Eval",
                0,
                0,
                found.metrics,
                found.images,
                examples=found.examples,
                reports=found.reports,
            )
            build_observers(["console", "pictures"], folder=folder, quiet=quiet).on_evaluation(
                record
            )
        return report | {"lines": [line for made in found.reports for line in made.lines()]}


def _label(weights: str) -> str:
    """The name of a file without its ending; a name like `mobilevit_v2_0.5` has none."""
    name = Path(weights).name
    endings = (ending for ending in (".pt", ".pth", ".safetensors") if name.endswith(ending))
    return name.removesuffix(next(endings, ""))


def check_weights(task: Task) -> None:
    """UserError unless the task has loaded whole weights, for the classes of the data in order."""
    key, report = task.pretrained, task.weights
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
