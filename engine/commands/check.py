"""`cvnets check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from config.errors import UserError
from engine.commands.arguments import Arguments

if TYPE_CHECKING:
    from engine.channel_order import Verdict


def run(words: list[str]) -> int:
    """Evaluate weights on RGB and on BGR images, and say which fits; exit code 0."""
    parser = Arguments(
        "cvnets check", description="which channel order weights expect, tried on some images"
    )
    parser.add_argument("weights", help="a file, or a named weight")
    parser.add_argument("--data", required=True, help="a folder with one sub-folder per class")
    parser.add_argument(
        "--model", help="the network, e.g. mobilevit_small; default: found by shapes"
    )
    parser.add_argument("--images", type=int, default=200, help="how many are tried; default 200")
    parser.add_argument("--size", type=int, default=256, help="image size in pixels; default 256")
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
    return 0


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
