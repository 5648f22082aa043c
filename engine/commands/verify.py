"""`cvnets verify`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from config.errors import UserError
from engine.commands.arguments import Arguments, RecipeArguments, start_logging

if TYPE_CHECKING:
    from engine.verification import Row

log = logging.getLogger(__name__)
RECORD = Path("results/verified.jsonl")
MISSED = 2  # the exit code where a figure is missed, or could not be measured
ABOUT = """Evaluate published weights as their recipe says, and compare with the figure that it
expects. The folders of the data are those that the recipe names (dataset.root_val), below ROOT:
imagenet/val, coco, VOCdevkit, ADEChallengeData2016. Weights that are not here are fetched. Each
result becomes a row of the record; it replaces only the row of the same recipe and weights. What
cannot be had is named, and the others go on."""


def run(words: list[str]) -> int:
    """Evaluate, print a table, add to the record; exit code 0 if all are within the tolerance."""
    parser = Arguments("cvnets verify", description=ABOUT)
    parser.add_argument("recipe", help="a recipe, or all: every shipped one with published weights")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROOT", help="folder of the data"
    )
    parser.add_argument("--out", type=Path, default=RECORD, help=f"the record, else {RECORD}")
    parser.add_argument("-v", "--verbose", action="store_true", help="the messages of evaluations")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options of the recipe")
    own = parser.parse_intermixed_args(words)
    start_logging(RecipeArguments(quiet=not own.verbose))
    from engine.verification import open_record, record, verify

    open_record(own.out)  # what is wrong with it is told before hours of evaluation
    rows: list[Row] = []
    failures: list[str] = []
    for name in _names(own.recipe):
        print(f"{name}: ", end="", flush=True)
        try:
            row = verify(name, own.data, own.overrides)
        except UserError as error:
            failures += [f"{name}: {line}" for line in error.lines()]
            print("not measured")
            continue
        rows.append(row)
        print(row["text"])
        if not row["reached"]:
            failures.append(f"{name}: {row['text']}")
        if old := record(row, own.out):
            print(f"{own.out}: {_replaced(old, name)} is replaced")
    _print(rows)
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return MISSED if failures else 0


def _names(asked: str) -> list[str]:
    from engine.reading import shipped_recipes
    from engine.verification import to_verify

    return to_verify(shipped_recipes()) if asked == "all" else [asked]


def _replaced(old: Row, name: str) -> str:
    """A figure that was not finite is null in the record."""
    measured = old.get("measured")
    if isinstance(measured, int | float):
        return f"{measured:.4g} of {name}"
    return f"a row of {name} without a figure"


def _print(rows: list[Row]) -> None:
    table = Table("recipe", "weights", "metric", "measured", "expected", "reached")
    words = {True: "yes", False: "no", None: "not compared"}
    for row in rows:
        figures = (f"{row['measured']:.2f}", f"{row['expected']:g} +- {row['tolerance']:g}")
        reached = words[row["reached"]]
        table.add_row(row["recipe"], row["weights"], row["metric"], *figures, reached)
    if rows:
        Console().print(table)
