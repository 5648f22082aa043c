"""Files of images: which ones are meant, and where pictures of them go."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from config.errors import UserError
from data.images import EXTENSIONS
from engine.checkpoint import write_atomically

Pixels = npt.NDArray[np.uint8]
# A colour picture has no place in a grey format; whoever reads it goes by the content.
ENCODED_AS = {".pgm": ".ppm"}


@dataclass(frozen=True)
class ImageFile:
    """An image to predict.

    `name`: the path relative to the folder around all images, with `/`; `number`: the number that
    its file is named by if all are (as in COCO), else its place in the sorted names, from 1 on.
    """

    path: Path
    name: str
    number: int


def find_images(words: Sequence[str]) -> list[ImageFile]:
    """The images that paths, folders (with all below them) and patterns name, sorted, each once.

    UserError for a word that names none.
    """
    found = {os.path.abspath(path): path for word in words for path in _paths(word)}
    return image_files([path for _, path in sorted(found.items())])


def image_files(paths: Sequence[str]) -> list[ImageFile]:
    """These images, in this order, with their names and numbers."""
    whole = list(map(os.path.abspath, paths))
    folder = os.path.commonpath(list(map(os.path.dirname, whole)))
    names = [Path(os.path.relpath(path, folder)).as_posix() for path in whole]
    stems = [PurePosixPath(name).stem for name in names]
    numbers = list(range(1, len(paths) + 1))
    if all(stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems):
        numbers = list(map(int, stems))
    return [
        ImageFile(Path(path), name, number)
        for path, name, number in zip(paths, names, numbers, strict=True)
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


class PictureKind(NamedTuple):
    """Pictures of one kind, a folder of them: `ending` names their format, `draw` makes one of what
    was found and of the image, uint8 [H, W, 3] RGB: uint8 [H, W, 3] RGB or [H, W], grey."""

    folder: str
    ending: str
    draw: Callable[[Any, Pixels], Pixels]


class Pictures(NamedTuple):
    """Where the picture of each image goes, by its name, and what makes it (see `PictureKind`)."""

    paths: Mapping[str, Path]
    draw: Callable[[Any, Pixels], Pixels]

    def write(self, name: str, found: Any, image: Pixels) -> None:
        """Write the picture of the image that is called `name`."""
        write_picture(self.paths[name], self.draw(found, image))


def write_picture(path: Path, picture: Pixels) -> None:
    """Write uint8 [H, W, 3] RGB or [H, W], grey, in the format that the path's ending says."""
    suffix = path.suffix.lower()
    pixels = picture[:, :, ::-1] if picture.ndim == 3 else picture
    _, content = cv2.imencode(ENCODED_AS.get(suffix, suffix), pixels)
    make_folder(path.parent)
    write_atomically(path, lambda file: file.write(content.tobytes()))


def new_pictures(
    kinds: Sequence[PictureKind], files: Sequence[ImageFile], folder: Path
) -> list[Pictures]:
    """Pictures of all kinds of all images, in the run folder `folder`; UserError if one is there."""
    made = [
        Pictures(picture_paths(files, folder / kind.folder, kind.ending), kind.draw)
        for kind in kinds
    ]
    paths = (path for each in made for path in each.paths.values())
    if there := next((path for path in paths if path.exists()), None):
        raise UserError(f"{there}: is there already; remove it, or change common.run_label")
    return made


def make_folder(folder: Path) -> None:
    """Create a folder if it is not there, with those around it. UserError if that fails."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses inside is the user's to mend: UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror}; choose another place") from None
