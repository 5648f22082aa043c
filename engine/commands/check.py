"""`cvnets check`: of a recipe, or of weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from config.errors import UserError
from engine.command_line import DONE, USER_MISTAKE
from engine.commands.arguments import Arguments, read_arguments

if TYPE_CHECKING:
    from engine.channel_order import Verdict

USAGE = """usage: cvnets check RECIPE [key=value ...] [--out DIR]
       cvnets check WEIGHTS --data DIR [--model NAME] [--images N] [--size PIXELS]

RECIPE (a YAML file, or the name of a shipped one): look at its data, and at what its task says of
them, before a training. Nothing is trained. check.json and pictures go to DIR, which is new, empty
or has another check in it; default: common.results_loc/common.run_label/check. The exit code is 2
if something is wrong, with one line for each problem.

WEIGHTS (a file, or a named weight): which channel order they expect, tried on images of DIR, a
folder with one sub-folder per class. --model: the network, e.g. mobilevit_small; default: found by
shapes. --images: how many are tried, 200. --size: of the images, 256 pixels.
"""
ENDINGS = (".pt", ".pth", ".safetensors")


def run(words: list[str]) -> int:
    """Check a recipe or weights; exit code 0, or 2 if something is wrong with the recipe."""
    of_weights = any(word.split("=")[0] == "--data" for word in words)
    if of_weights or any(word.endswith(ENDINGS) for word in words if "=" not in word):
        return _check_weights(words)
    return _check_recipe(words)


def _check_recipe(words: list[str]) -> int:
    parser = Arguments("cvnets check", add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    own, rest = parser.parse_known_args(words)
    arguments = read_arguments(rest, USAGE)
    if arguments.recipe is None:
        raise UserError(
            "cvnets check: a recipe is needed, or weights and --data; cvnets list recipes shows the "
            "shipped recipes"
        )
    from engine.checks.splits import check
    from engine.reading import find_recipe, load_recipe, located

    try:
        find_recipe(arguments.recipe)
    except UserError as error:
        raise UserError(f"{error}; weights are checked with --data DIR") from None
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    for note in recipe.notes:
        print(note)
    problems: list[str] = []
    with located(recipe):
        for finding in check(recipe, own.out):
            mark = "ok" if finding.ok else "PROBLEM"
            print(f"{finding.title}: {mark}", *finding.lines, sep="\n    ", flush=True)
            problems += finding.problems
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return USER_MISTAKE if problems else DONE


def _check_weights(words: list[str]) -> int:
    """Evaluate weights on RGB and on BGR images, and say which fits."""
    parser = Arguments("cvnets check", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("weights")
    parser.add_argument("--data", required=True)
    parser.add_argument("--model")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args(words)
    if not 32 <= arguments.size <= 2048:
        raise UserError(f"--size {arguments.size}: 32 to 2048 pixels are possible")
    if not Path(arguments.data).is_dir():
        raise UserError(f"--data {arguments.data}: no such folder")
    from engine.channel_order import check_weights

    checked = check_weights(
        arguments.weights,
        arguments.data,
        variant=arguments.model,
        images=arguments.images,
        size=arguments.size,
    )
    if checked.said is not None:
        print(f"{arguments.weights}: its metadata say {checked.said}, and that counts")
    print(f"{arguments.weights}: {checked.network}, {checked.verdict.images} images")
    _print(checked.verdict, checked.sources)
    return DONE


def _print(verdict: Verdict, sources: Sequence[str]) -> None:
    table = Table("images fed as", "top-1 (%)", "loss")
    for order, scores in verdict.scores.items():
        table.add_row(order, f"{scores.top1:.1f}", f"{scores.loss:.3f}")
    Console().print(table)
    if verdict.order is None:
        print("no clear difference: try more images (--images), or the data are not its own")
        return
    said = f": model.weights_source={' or '.join(sources)}" if sources else ""
    print(f"{verdict.order} fits{said}")
