"""Predictions for files of images: found, read ahead, predicted in batches, written as they come."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from config.errors import UserError
from cvnets.weights.load import open_weights
from data.images import EXTENSIONS, ImageError, read_image
from engine.checkpoint import write_atomically
from engine.distributed import World, choose_device
from engine.parts import build_task, place, use_numerics
from engine.predictor import Predictor
from engine.pretrained import check_complete
from engine.reading import task_name
from engine.recipe import Recipe
from engine.resolved import flat
from engine.run_folder import run_folder

Pixels = npt.NDArray[np.uint8]
# A colour picture has no place in a grey format; whoever reads it goes by the content.
ENCODED_AS = {".pgm": ".ppm"}
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
class ImageFile:
    """An image to predict.

    `name`: the path relative to the folder around all images, with `/`; `number`: the number that
    its file is named by if all are (as in COCO), else its place in the sorted names, from 1 on.
    """

    path: Path
    name: str
    number: int


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
    use_numerics(recipe)
    task = build_task(recipe)
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


def draw_asked(recipe: Recipe) -> tuple[Path, Iterator[Outcome]]:
    """What `evaluation.<task>` asks to draw: an image, or all of a folder.

    The folder of the pictures, `<task>_results` in the run folder, and outcomes, which come while
    the pictures are drawn. All that the network reports is drawn: its own options set the limit.
    UserError if the images are not there, or a picture is there already.
    """
    name = task_name(recipe)
    asked = getattr(recipe.evaluation, name)
    key = f"evaluation.{name}.path"
    path, kind = asked.path, "an image" if asked.mode == "single_image" else "a folder of images"
    if path is None or not (os.path.isfile if kind == "an image" else os.path.isdir)(path):
        raise UserError(f"{key}: {kind} is expected ({path or 'nothing'} given)")
    files = find_images([path])
    folder = run_folder(recipe) / f"{name}_results"
    pictures = picture_paths(files, folder, ".jpg")
    if there := next((picture for picture in pictures.values() if picture.exists()), None):
        raise UserError(f"{there}: is there already; remove it, or change common.run_label")
    predictor = predictor_of(recipe)
    batch = recipe.dataset.eval_batch_size0
    return folder, predict_files(predictor, files, batch, pictures=pictures)


def find_images(words: Sequence[str]) -> list[ImageFile]:
    """The images that paths, folders (with all below them) and patterns name, sorted, each once.

    UserError for a word that names none.
    """
    found = sorted({os.path.abspath(path): path for word in words for path in _paths(word)}.items())
    folder = os.path.commonpath([os.path.dirname(path) for path, _ in found])
    names = [Path(os.path.relpath(path, folder)).as_posix() for path, _ in found]
    stems = [PurePosixPath(name).stem for name in names]
    numbers = list(range(1, len(found) + 1))
    if all(stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems):
        numbers = list(map(int, stems))
    return [
        ImageFile(Path(path), name, number)
        for (_, path), name, number in zip(found, names, numbers, strict=True)
    ]


def _paths(word: str) -> list[str]:
    if os.path.isfile(word):
        return [word]  # whatever it is called: the user means it
    places = [word] if os.path.isdir(word) else glob.glob(word, recursive=True)
    if not places:
        raise UserError(f"{word}: no such image or folder, and no file of this pattern")
    files = [file for place in places for file in _below(place)]
    images = [file for file in files if file.lower().endswith(EXTENSIONS)]
    if not images:
        raise UserError(f"{word}: no image in it ({', '.join(EXTENSIONS)})")
    return images


def _below(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
    for base, _, names in os.walk(path):
        yield from (os.path.join(base, name) for name in names)


def predict_files(
    predictor: Predictor,
    files: Sequence[ImageFile],
    batch_size: int,
    *,
    pictures: Mapping[str, Path] | None = None,
    min_score: float = 0.0,
) -> Iterator[Outcome]:
    """Outcomes in the order of the files; the next batch is read while the network computes.

    `pictures`: where the picture of each image goes, by its name (see `picture_paths`), with what
    is at least as sure as `min_score` drawn on it; None: none are written.
    """
    batches = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
    with ThreadPoolExecutor(THREADS) as pool:
        ahead = [pool.submit(_read, file) for file in batches[0]]
        for batch, following in zip(batches, [*batches[1:], ()], strict=True):
            images = [future.result() for future in ahead]
            ahead = [pool.submit(_read, file) for file in following]
            good = [image for image in images if not isinstance(image, ImageError)]
            said = iter(predictor.predict_batch(good))
            outcomes, writing = [], []
            for file, image in zip(batch, images, strict=True):
                if isinstance(image, ImageError):
                    outcomes.append(Outcome(file, image))
                    continue
                found: Prediction = next(said)
                outcomes.append(Outcome(file, found))
                if pictures is not None:
                    writing.append(pool.submit(_draw, pictures[file.name], found, image, min_score))
            for future in writing:
                future.result()
            yield from outcomes


def _read(file: ImageFile) -> Pixels | ImageError:
    try:
        return read_image(file.path)
    except ImageError as error:
        return error


def _draw(path: Path, found: Prediction, image: Pixels, min_score: float) -> None:
    """Write the image with what was found in it, in the format that the path's ending says."""
    suffix = path.suffix.lower()
    drawn = found.draw(image, min_score)
    _, content = cv2.imencode(ENCODED_AS.get(suffix, suffix), drawn[:, :, ::-1])
    make_folder(path.parent)
    write_atomically(path, lambda file: file.write(content.tobytes()))


def picture_paths(
    files: Sequence[ImageFile], folder: Path, suffix: str | None = None
) -> dict[str, Path]:
    """Name of an image -> the picture of it in `folder`: of the same name, or with this ending.

    No two images share one. UserError if a picture would lie among the images themselves.
    """
    paths: dict[str, Path] = {}
    taken: set[Path] = set()
    for file in files:
        name = PurePosixPath(file.name)
        known = name.suffix.lower() in EXTENSIONS
        ending = suffix or (name.suffix if known else f"{name.suffix}.png")
        path, number = folder / name.with_suffix(ending), 1
        while path in taken:
            number += 1
            path = folder / name.with_name(f"{name.stem}_{number}{ending}")
        taken.add(path)
        paths[file.name] = path
    sources = {file.path.parent for file in files}
    sources |= {Path(os.path.realpath(f.path)).parent for f in files if os.path.islink(f.path)}
    inputs = set(map(os.path.realpath, sources))
    for target in {path.parent for path in taken}:
        if os.path.realpath(target) in inputs:
            raise UserError(f"{target}: the images themselves are in it; choose another folder")
    return paths


def make_folder(folder: Path) -> None:
    """Create a folder if it is not there, with those around it. UserError if that fails."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the system refuses inside is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror}; choose another place") from None


def json_list(path: Path, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """The same outcomes; when they are through, what was found stands in a JSON file as a list.

    The file appears whole, and until then its rows wait on the disk, not in memory.
    """
    make_folder(path.parent)
    with _writing(path):
        rows = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - it outlives this block
    with rows:
        for outcome in outcomes:
            yield outcome
            with _writing(path):
                for row in _rows(outcome):
                    rows.write(b",\n" if rows.tell() else b"[\n")
                    rows.write(json.dumps(row, allow_nan=False).encode())
        with _writing(path):
            rows.write(b"\n]\n" if rows.tell() else b"[]\n")
            rows.seek(0)
        write_atomically(path, lambda file: shutil.copyfileobj(rows, file))


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    if isinstance(outcome.found, ImageError):
        return []
    return outcome.found.rows(outcome.file.number, outcome.file.name)
