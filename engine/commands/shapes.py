"""`cvnets shapes`."""

from __future__ import annotations

from pathlib import Path

from engine.commands.arguments import Arguments


def run(words: list[str]) -> int:
    """Generate a data set; exit code 0."""
    from data.datasets.shapes import CLASSES, generate

    parser = Arguments("cvnets shapes", description="generate a data set of shapes")
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    parser.add_argument(
        "--layout", choices=("imagefolder", "coco", "voc", "ade20k"), default="imagefolder"
    )
    parser.add_argument("--train", type=int, default=4000, help="training images")
    parser.add_argument("--val", type=int, default=800, help="held-out images")
    parser.add_argument("--size", type=int, default=None, help="image side in pixels")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    arguments = parser.parse_args(words)
    generate(
        arguments.layout,
        arguments.out,
        train=arguments.train,
        val=arguments.val,
        size=arguments.size,
        seed=arguments.seed,
    )
    print(
        f"{arguments.train} training and {arguments.val} held-out images of {len(CLASSES)} classes "
        f"in {arguments.out} ({arguments.layout})"
    )
    return 0
