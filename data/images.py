"""Finding image files, and decoding them strictly: a damaged one is an error that names it, never grey."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from config.errors import UserError

try:
    import cv2
except ImportError as error:  # a machine without a screen often lacks libGL
    raise UserError(
        f"cannot import OpenCV ({error}); on a machine without libGL: "
        "pip uninstall -y opencv-python && pip install opencv-python-headless"
    ) from error

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Orientation tags are ignored, as PIL does: the official weights were trained that way.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class ImageError(UserError):
    """An image file that cannot be read; the message names the file and the reason."""


def files_below(folder: Path, endings: tuple[str, ...] = EXTENSIONS) -> list[str]:
    """Files with one of these endings in a folder and below, relative to it, sorted.

    Hidden ones are left out, and all in hidden folders: copies of editors, and what macOS writes
    beside a file.
    """
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(base, folder)
        found += [
            os.path.normpath(os.path.join(below, name))
            for name in sorted(names)
            if name.lower().endswith(endings) and not name.startswith(".")
        ]
    return found


def read_image(path: Path | str) -> npt.NDArray[np.uint8]:
    """The image as uint8 [H, W, 3] RGB. Raises ImageError for a missing or damaged file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ImageError(f"{path}: cannot read the image ({error.strerror or error})") from None
    reason = _damage(content)
    image = None if reason else _decode(content)
    if image is None:
        raise ImageError(f"{path}: {reason or 'not an image that OpenCV can decode'}")
    return image


def _decode(content: bytes) -> npt.NDArray[np.uint8] | None:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS)
    except cv2.error:
        return None
    return None if image is None else np.ascontiguousarray(image[:, :, ::-1])


def _damage(content: bytes) -> str:
    """Why the content is certainly damaged, or "". OpenCV fills what is missing with grey."""
    if not content:
        return "the file is empty"
    if content.startswith(b"\xff\xd8"):
        # The end marker must follow the last scan; entropy-coded data never holds these bytes,
        # and an embedded thumbnail has both before the scan of the image itself.
        if content.rfind(b"\xff\xd9") < max(content.rfind(b"\xff\xda"), 0):
            return "a truncated JPEG"
    elif content.startswith(b"\x89PNG") and b"IEND" not in content[-64:]:
        return "a truncated PNG"
    return ""
