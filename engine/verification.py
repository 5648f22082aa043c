"""Published weights, evaluated again as their recipe says, and the record of what they reach."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from config.errors import UserError
from engine.checkpoint import finite, write_text
from engine.distributed import choose_device
from engine.evaluation import evaluate
from engine.pretrained import pretrained_key
from engine.reading import find_recipe, load_recipe, located
from engine.recipe import RECIPES, Recipe

ROOTS = ("dataset.root_val", "dataset.root_test")
Row = dict[str, Any]


def verify(name: str, data: Path, overrides: Sequence[str] = ()) -> Row:
    """Evaluate the weights that a recipe expects its figure of; the row of the record.

    The roots of the recipe's validation and test data are taken below `data`. `overrides` are
    `a.b=value` words for both. The row has JSON types; `reached` is None if the figures are not of
    the same images, and `text` says the outcome in a line. UserError where nothing is to compare,
    and where data or weights cannot be had.
    """
    recipe = load_recipe(name, overrides)
    expected = recipe.expected
    if expected.weights is None or expected.value is None or expected.metric is None:
        raise UserError(
            "expected: weights, metric and value are needed; nothing is published to verify here"
        )
    words = [f"{pretrained_key(recipe)}={expected.weights}", *_roots_below(data, recipe)]
    whole = load_recipe(name, [*overrides, *words])
    with located(whole):
        report = evaluate(whole, quiet=True)
    compared = report.get("expected")
    if compared is None:
        measured = ", ".join(report["metrics"])
        raise UserError(f"expected.metric: {expected.metric} is not measured, only {measured}")
    return {
        "recipe": _short(name),
        "weights": expected.weights,
        **{key: compared[key] for key in ("metric", "measured", "expected", "tolerance")},
        "reached": compared["reached"],
        "images": report["images"],
        "input_size": expected.input_size,
        "device": _device(whole),
        "torch": str(torch.__version__),
        "text": compared["text"],
    }


def record(row: Row, path: Path) -> Row | None:
    """Put a row into a file of JSON lines, atomically; the row that it takes the place of, if any.

    That is the one of the same recipe and weights: rows of other weights stay. UserError for a
    line that is no such row, and for a file that cannot be written.
    """
    kept = {key: value for key, value in row.items() if key != "text"}
    rows = read_record(path)
    same = [n for n, old in enumerate(rows) if _identity(old) == _identity(kept)]
    old = rows[same[0]] if same else None
    if same:
        rows[same[0]] = kept
    else:
        rows.append(kept)
    _write(path, rows)
    return old


def open_record(path: Path) -> None:
    """UserError unless rows can be put into a file, which need not exist yet: it is tried."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot create its folder: {error.strerror}") from None
    rows = read_record(path)
    new = not path.exists()
    _write(path, rows)
    if new:
        path.unlink()


def _write(path: Path, rows: Iterable[Row]) -> None:
    write_text(path, "".join(json.dumps(finite(row)) + "\n" for row in rows))


def read_record(path: Path) -> list[Row]:
    """The rows of a file that `record` wrote; none if there is no file.

    UserError for what is no such file, and for one that cannot be read.
    """
    rows: list[Row] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            rows.append(json.loads(line))
            _identity(rows[-1])
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{path}:{number}: no row of cvnets verify; repair the line or give another --out"
            ) from None
    return rows


def _text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # writing would put a file in its place
            what = "a folder" if path.is_dir() else "no ordinary file"
            raise UserError(f"{path}: is {what}; name a file with --out")
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot read the record: {reason}; give another --out") from None


def to_verify(recipes: Iterable[Path]) -> list[str]:
    """The names of those recipes that expect a figure of published weights."""
    return [_short(str(path)) for path in recipes if load_recipe(path).expected.weights]


def _identity(row: Row) -> tuple[str, str]:
    return row["recipe"], row["weights"]


def _roots_below(data: Path, recipe: Recipe) -> list[str]:
    given = ((key, getattr(recipe.dataset, key.partition(".")[2])) for key in ROOTS)
    return [f"{key}={data / root}" for key, root in given if root is not None]


def _short(name: str) -> str:
    """A shipped recipe is called as in `cvnets list recipes`, without the ending."""
    path = find_recipe(name)
    shipped = path.resolve().is_relative_to(RECIPES.resolve())
    known = path.resolve().relative_to(RECIPES.resolve()) if shipped else path
    return known.with_suffix("").as_posix() if shipped else known.as_posix()


def _device(recipe: Recipe) -> str:
    device = choose_device(recipe.common.device, 0)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
