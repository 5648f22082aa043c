"""`cvnets check`."""

from __future__ import annotations

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
    if arguments.size < 32:
        raise UserError(f"--size {arguments.size}: at least 32 pixels are needed")
    from config.registry import NoOptions
    from cvnets.weights.convert import identify
    from cvnets.weights.fit import Network
    from cvnets.weights.load import fitted, open_weights
    from data.datasets.classification.imagenet import ImageFolder
    from data.transforms.classification import EvaluationTransform
    from data.transforms.section import ImageAugmentationSection
    from engine.channel_order import compare_orders

    file, _ = open_weights(arguments.weights)
    found = identify(file, arguments.model)
    if found.num_classes is None:
        raise UserError(f"{arguments.weights}: has no classifier, so there is nothing to compare")
    dataset = ImageFolder(NoOptions(), root=arguments.data, split="test")
    if len(dataset.classes) != found.num_classes:
        raise UserError(
            f"--data {arguments.data}: {len(dataset.classes)} class folders, but {arguments.weights} "
            f"has {found.num_classes} classes; give a folder with those"
        )
    model = found.build()
    state, _, _ = fitted(file, Network.of(model))
    model.load_state_dict(state)
    verdict = compare_orders(
        model,
        dataset,
        EvaluationTransform(ImageAugmentationSection()),
        images=arguments.images,
        size=arguments.size,
    )
    _print(verdict, arguments.weights, found.variant, model.family)
    return 0


def _print(verdict: Verdict, weights: str, variant: str, family: str) -> None:
    from cvnets.weights.preprocessing import SOURCES

    table = Table("images fed as", "top-1 (%)", "loss")
    for order, scores in verdict.scores.items():
        table.add_row(order, f"{scores.top1:.1f}", f"{scores.loss:.3f}")
    print(f"{weights}: {variant}, {verdict.images} images")
    Console().print(table)
    if verdict.order is None:
        print("no clear difference: try more images (--images), or the data are not its own")
        return
    sources = [name for name, e in SOURCES[family].items() if e.channel_order == verdict.order]
    print(f"{verdict.order} fits: model.weights_source={' or '.join(sources)}")
