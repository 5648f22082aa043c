"""`cvnets predict`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from config.errors import UserError
from engine.commands.arguments import Arguments, RecipeArguments, start_logging

if TYPE_CHECKING:
    from engine.prediction import Outcome
    from engine.predictor import Predictor

OR_OVERWRITE = "choose another name, or give --overwrite"


def run(words: list[str]) -> int:
    """Predict; exit code 0, or 2 if some image could not be read."""
    own = _parser().parse_intermixed_args(words)
    overrides = [word for word in own.words if _is_override(word)]
    weights, *images = [word for word in own.words if word not in overrides] or [""]
    if not images:
        raise UserError(
            "cvnets predict: weights and images are needed, e.g. cvnets predict "
            "checkpoint_best.pt photos"
        )
    _check_targets(own, images)
    start_logging(RecipeArguments(quiet=own.quiet, verbose=own.verbose))
    from engine.image_files import Pictures, find_images, make_folder, picture_paths
    from engine.prediction import json_list, predict_files

    files, pictures = find_images(images), []
    if own.save_images:
        paths = picture_paths(files, own.save_images)
        pictures.append(Pictures(paths, lambda found, image: found.draw(image, own.min_score)))
        make_folder(own.save_images)  # if that fails, then before the network is loaded
    predictor = _predictor(weights, own.recipe, overrides)
    outcomes = predict_files(predictor, files, own.batch, pictures=pictures)
    if own.json is not None:
        outcomes = json_list(own.json, outcomes)
    unreadable = tell(outcomes, None if own.quiet else own.min_score)
    if not own.quiet:
        bad = f", {len(unreadable)} of them unreadable" if unreadable else ""
        places = [str(place) for place in (own.json, own.save_images) if place]
        print(f"{len(files)} images{bad}{': ' if places else ''}{', '.join(places)}")
    return exit_code(unreadable)


def tell(outcomes: Iterable[Outcome], min_score: float | None) -> list[UserError]:
    """Print what was found, of at least this score, None: nothing; what could not be read."""
    unreadable: list[UserError] = []
    for outcome in outcomes:
        if isinstance(outcome.found, UserError):
            unreadable.append(outcome.found)
        elif min_score is not None:
            print(f"{outcome.file.name}: {outcome.found.text(min_score)}")
    return unreadable


def exit_code(unreadable: Iterable[UserError]) -> int:
    """Print which images could not be read; 0 if there are none, else 2."""
    lines = [line for error in unreadable for line in error.lines()]
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 2 if lines else 0


def _parser() -> Arguments:
    parser = Arguments(
        "cvnets predict",
        usage="cvnets predict WEIGHTS IMAGE|FOLDER|'PATTERN' ... [key=value ...] [options]",
        description="what a trained network says of images; folders are searched to the bottom",
    )
    parser.add_argument(
        "words", nargs="*", metavar="WEIGHTS IMAGE ... key=value", help="a key wins over the recipe"
    )
    parser.add_argument("--recipe", help="for weights that carry none: a file or a shipped one")
    parser.add_argument("--json", type=Path, help="write all results to this .json file")
    parser.add_argument("--save-images", type=Path, help="draw the results on images, in a folder")
    parser.add_argument("--batch", type=_count, default=16, help="images per batch; default 16")
    parser.add_argument(
        "--min-score",
        type=_share,
        default=0.3,
        help="least score of the objects that are drawn and printed, 0 to 1; default 0.3",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there already")
    parser.add_argument("-q", "--quiet", action="store_true", help="print mistakes only")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a number from 1 on is expected ({text!r} given)")
    return int(text)


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 is expected ({text!r} given)")
    return number


def _is_override(word: str) -> bool:
    key, equals, _ = word.partition("=")
    dotted = key.replace(".", "_").replace("-", "_").isidentifier()
    return bool(equals) and dotted and not os.path.exists(word)


def _check_targets(own: argparse.Namespace, images: Sequence[str]) -> None:
    """Nothing that is there already is replaced unless the user says so, and no picture lands among
    what the next call would read."""
    if own.json is not None:
        if own.json.suffix != ".json":
            raise UserError(f"--json {own.json}: a name that ends in .json is expected")
        if own.json.exists() and not own.overwrite:
            raise UserError(f"--json: {own.json} is there already; {OR_OVERWRITE}")
    folder = own.save_images
    for word in images if folder is not None else ():
        if Path(word).is_dir() and Path(word).resolve() in folder.resolve().parents:
            raise UserError(
                f"--save-images: {folder} lies in {word}, which is searched for images; choose another folder"
            )
    if folder is not None and folder.exists():
        if not folder.is_dir():
            raise UserError(f"--save-images: {folder} is no folder; choose another name")
        if any(folder.iterdir()) and not own.overwrite:
            raise UserError(f"--save-images: {folder} is not empty; {OR_OVERWRITE}")


def _predictor(weights: str, name: str | None, overrides: Sequence[str]) -> Predictor:
    from engine.prediction import predictor_of
    from engine.pretrained import pretrained_key, recipe_of
    from engine.reading import load_recipe, located

    if name is None:
        recipe, _ = recipe_of(weights, overrides)
    else:
        key = pretrained_key(load_recipe(name, overrides))
        recipe = load_recipe(name, [*overrides, f"{key}={weights}"])
    with located(recipe):
        return predictor_of(recipe)
