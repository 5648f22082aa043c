"""The engine: recipes, tasks, training, evaluation.

`load_recipe`, `build_model`, `train`, `evaluate` and `load` are the stable Python API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from engine.predictor import Predictor
    from engine.recipe import Recipe

__all__ = ["build_model", "evaluate", "load", "load_recipe", "train"]


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """The checked recipe of a file or a mapping (see `engine.reading.load_recipe`)."""
    from engine.reading import load_recipe as load

    return load(source, overrides)


def build_model(recipe: Recipe) -> nn.Module:
    """The network of a recipe, initialised or with its pretrained weights.

    Raises UserError if the number of classes (`model.<task>.n_classes`) is not given.
    """
    from engine.parts import build_task

    return build_task(recipe).build_model()


def train(recipe: Recipe) -> dict[str, Any]:
    """Train as the recipe says; returns what summary.json holds."""
    from engine.training import train as run

    return run(recipe)


def evaluate(recipe: Recipe) -> dict[str, Any]:
    """Evaluate the recipe's weights; returns {"metrics", "images", "weights"}."""
    from engine.evaluation import evaluate as run

    return run(recipe)


def load(checkpoint: str | Path, overrides: Iterable[str] = ()) -> Predictor:
    """A network that was trained here, ready for `predict(image)`.

    `checkpoint`: weights of a run folder, which carry their recipe and classes; `overrides`:
    `key=value` words that win over the recipe, e.g. `common.plugins=my_backbone.py`, which a
    recipe found in a file never imports by itself. UserError for other files.
    """
    from engine.parts import build_task
    from engine.predictor import Predictor
    from engine.pretrained import check_complete, recipe_of

    recipe, metadata = recipe_of(checkpoint, overrides)
    task = build_task(recipe)
    task.restore(metadata)
    model = task.build_model()
    if task.weights is not None:
        check_complete(task.weights, str(checkpoint))
    return Predictor(task, model.double() if recipe.common.parameter_dtype == "float64" else model)
