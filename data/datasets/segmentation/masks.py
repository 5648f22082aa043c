"""Reading mask files: the numbers in them, never the colours of a palette."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from data.datasets.segmentation.labels import Mask
from data.images import ImageError

# PIL and OpenCV stretch grey PNGs of fewer bits to 0..255; in a mask they are numbers.
_STRETCHED = {(2, 0): 85, (4, 0): 17}  # (bits, colour type of PNG): factor


def read_mask(path: Path | str) -> Mask:
    """The values of a mask: uint8 [H, W], or [H, W, 3] RGB of a file in colours.

    Files with a palette give its indices; an alpha channel is dropped. ImageError for a file that
    is missing or damaged, that has values above 255, or that is a JPEG, which changes values.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot read the mask ({error.strerror or error})") from None
    if content.startswith(b"\xff\xd8"):
        raise ImageError(
            f"{path}: a mask cannot be a JPEG, which changes its values; save it as PNG"
        )
    if _is_png(content) and content[24] == 16 and content[25] != 0:
        raise ImageError(
            f"{path}: the mask has several channels of 16 bits; save it with 8 bits, or as grey"
        )
    try:
        with Image.open(io.BytesIO(content)) as image:
            values, mode = np.asarray(image), image.mode
    # the last but one is PIL's, of a broken PNG, the last of more pixels than it deems safe
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot decode the mask ({error})") from None
    if mode in ("LA", "PA", "RGBA"):
        values = values[..., :-1].squeeze(-1) if mode != "RGBA" else values[..., :3]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise ImageError(f"{path}: a mask has one channel or RGB; this one is {mode}")
    if values.dtype.kind == "f" or (values.size and (values.min() < 0 or values.max() > 255)):
        raise ImageError(
            f"{path}: the mask has values of {values.min():g} to {values.max():g}; 8 bits (0..255) "
            "are read"
        )
    factor = _STRETCHED.get((content[24], content[25])) if _is_png(content) else None
    return np.array(values // factor if factor else values, np.uint8, order="C")


def one_channel(mask: Mask, path: Path | str) -> Mask:
    """The same mask as uint8 [H, W]; ImageError if it has colours."""
    if mask.ndim == 2:
        return mask
    if (mask == mask[..., :1]).all():  # grey, saved with three channels
        return np.ascontiguousarray(mask[..., 0])
    raise ImageError(
        f"{path}: the mask has colours; save it with one channel (values 0..255) or with a palette"
    )


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG") and len(content) > 25
