"""Predictions for files of images: found, read ahead, predicted in batches, written as they come."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from config.errors import UserError
from cvnets.weights.load import open_weights
from data.images import ImageError, read_image
from engine.checkpoint import write_atomically
from engine.distributed import World, choose_device
from engine.image_files import (
    ImageFile,
    Pictures,
    Pixels,
    find_images,
    make_folder,
    new_pictures,
    writing,
)
from engine.parts import build_task, place, use_numerics
from engine.predictor import Predictor
from engine.pretrained import check_complete
from engine.reading import task_name
from engine.recipe import Recipe
from engine.resolved import flat
from engine.run_folder import run_folder
from engine.task import Task

THREADS = min(8, os.cpu_count() or 1)  # that decode, draw and encode


class Prediction(Protocol):
    """What a task says of one image (`Task.predict`), as far as commands need to know it."""

    def text(self, min_score: float) -> str:
        """In one line, without what is less sure than `min_score`."""
        ...

    def rows(self, number: int, name: str) -> list[dict[str, Any]]:
        """All of it as JSON objects; the image has this number and is called `name`."""
        ...

    def draw(self, image: Pixels, min_score: float) -> Pixels:
        """A copy of the image, uint8 [H, W, 3] RGB, with what is at least so sure drawn on it."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What was predicted for an image, or why it could not be read."""

    file: ImageFile
    found: Prediction | ImageError


def predictor_of(recipe: Recipe) -> Predictor:
    """The network of a recipe with the weights that it names, on its device.

    The classes are named by the weights, else by the data set of the recipe if it is there.
    UserError if no weights are named, or if anything of the network would start anew.
    """
    return _predictor(build_task(recipe))


def _predictor(task: Task) -> Predictor:
    recipe = task.recipe
    use_numerics(recipe)
    weights = flat(recipe)[task.pretrained]
    if weights is None:
        raise UserError(f"{task.pretrained}: a prediction needs weights; set it to a file")
    metadata = open_weights(weights)[0].metadata
    root, _ = task.split_root("test")
    if metadata.get("classes") and metadata.get("task", "classification") == task_name(recipe):
        task.restore(metadata)
    elif root and Path(root).is_dir():
        task.build_source("test")
    device = choose_device(recipe.common.device, 0)
    model = place(task.build_model(), recipe, World(device=device))
    if task.weights is not None:
        check_complete(task.weights, task.pretrained)
    return Predictor(task, model)


def draw_asked(recipe: Recipe) -> tuple[list[Path], Iterator[Outcome]]:
    """What `evaluation.<task>` asks to draw: an image, or all of a folder.

    The folders of the pictures in the run folder, and outcomes, which come while the pictures are
    drawn. UserError if the images are not there, or a picture is there already.
    """
    name = task_name(recipe)
    asked = getattr(recipe.evaluation, name)
    key = f"evaluation.{name}.path"
    path, kind = asked.path, "an image" if asked.mode == "single_image" else "a folder of images"
    if path is None or not (os.path.isfile if kind == "an image" else os.path.isdir)(path):
        raise UserError(f"{key}: {kind} is expected ({path or 'nothing'} given)")
    files = find_images([path])
    task = build_task(recipe)
    kinds = task.asked_pictures()
    pictures = new_pictures(kinds, files, run_folder(recipe))
    predictor = _predictor(task)
    outcomes = predict_files(predictor, files, recipe.dataset.eval_batch_size0, pictures=pictures)
    return [run_folder(recipe) / kind.folder for kind in kinds], outcomes


def predict_files(
    predictor: Predictor,
    files: Sequence[ImageFile],
    batch_size: int,
    *,
    pictures: Sequence[Pictures] = (),
) -> Iterator[Outcome]:
    """Outcomes in the order of the files; the next batch is read while the network computes.

    `pictures`: what is written of every image.
    """
    batches = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
    with ThreadPoolExecutor(THREADS) as pool:
        ahead = [pool.submit(_read, file) for file in batches[0]]
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            images = [future.result() for future in ahead]
            ahead = [pool.submit(_read, file) for file in following]
            good = [image for image in images if not isinstance(image, ImageError)]
            said = iter(predictor.predict_batch(good))
            outcomes, pending = [], []
            for file, image in zip(batch, images, strict=True):
                if isinstance(image, ImageError):
                    outcomes.append(Outcome(file, image))
                    continue
                found: Prediction = next(said)
                outcomes.append(Outcome(file, found))
                pending += [pool.submit(each.write, file.name, found, image) for each in pictures]
            for future in pending:
                future.result()
            yield from outcomes


def _read(file: ImageFile) -> Pixels | ImageError:
    try:
        return read_image(file.path)
    except ImageError as error:
        return error


def json_list(path: Path, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """The same outcomes; when they are through, what was found stands in a JSON file as a list.

    The file appears whole, and until then its rows wait on the disk, not in memory.
    """
    make_folder(path.parent)
    with writing(path):
        rows = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - it outlives this block
    with rows:
        for outcome in outcomes:
            yield outcome
            with writing(path):
                for row in _rows(outcome):
                    rows.write(b",\n" if rows.tell() else b"[\n")
                    rows.write(json.dumps(row, allow_nan=False).encode())
        with writing(path):
            rows.write(b"\n]\n" if rows.tell() else b"[]\n")
            rows.seek(0)
        write_atomically(path, lambda file: shutil.copyfileobj(rows, file))


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    if isinstance(outcome.found, ImageError):
        return []
    return outcome.found.rows(outcome.file.number, outcome.file.name)
