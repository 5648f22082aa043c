"""Drawing on images what a network says of them."""

from __future__ import annotations

import colorsys
import math
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]


def draw_boxes(
    image: Pixels,
    boxes: npt.NDArray[np.floating],
    names: Sequence[str],
    scores: npt.NDArray[np.floating] | None,
) -> Pixels:
    """A copy of the image with labelled boxes; a class has the same colour on every image.

    `image` uint8 [H, W, 3] RGB; `boxes` [n, 4] corner form (x1, y1, x2, y2) in pixels; `names` the
    n classes; `scores` [n] in [0, 1], written behind the names, or None. The surest are on top.
    """
    picture = Image.fromarray(image)
    draw, width = ImageDraw.Draw(picture), _line_width(picture)
    order = range(len(names)) if scores is None else np.argsort(scores, kind="stable").tolist()
    for index in order:
        left, top, right, bottom = boxes[index].tolist()
        # the last pixel inside the box and the image; PIL refuses corners in the wrong order
        right, bottom = min(right, picture.width) - 1, min(bottom, picture.height) - 1
        corners = (left, top, max(left, right), max(top, bottom))
        draw.rectangle(corners, outline=colour_of(names[index]), width=width)
    for index in order:  # after all boxes, so that no line crosses a text
        score = "" if scores is None else f" {scores[index]:.0%}"
        left, top = boxes[index, :2].tolist()
        _write(draw, picture, f"{names[index]}{score}", (left, top), colour_of(names[index]))
    return np.array(picture)


def draw_caption(image: Pixels, text: str, name: str) -> Pixels:
    """A copy of the image, uint8 [H, W, 3] RGB, with a text in the colour of the class `name`."""
    picture = Image.fromarray(image)
    _write(ImageDraw.Draw(picture), picture, text, (0.0, 0.0), colour_of(name))
    return np.array(picture)


def blend(image: Pixels, colours: Pixels, image_weight: float) -> Pixels:
    """The mean of an image and a picture of the same size, both uint8 [H, W, 3] RGB.

    `image_weight` in [0, 1] is the share of the image: 0 shows the other picture only.
    """
    mixed = image_weight * image + (1 - image_weight) * colours
    return np.asarray(mixed.round(), np.uint8)


def draw_legend(image: Pixels, rows: Sequence[tuple[str, Colour]]) -> Pixels:
    """A copy of the image, uint8 [H, W, 3] RGB, with texts on their colours, one below the other.

    They stand in the upper left corner, and hide a quarter of the image at most: rows are left out
    below its middle, and all of them where one is wider than half of it.
    """
    picture = Image.fromarray(image)
    draw, font = ImageDraw.Draw(picture), _text_font(picture)
    height = sum(font.getmetrics())
    width = max((_text_width(draw, text, font) for text, _ in rows), default=0)
    fitting = picture.height // 2 // height if width <= picture.width // 2 else 0
    for row, (text, colour) in enumerate(rows[:fitting]):
        _put(draw, text, (0, row * height), (width, height), colour, font)
    return np.array(picture)


@cache
def colour_of(name: str) -> Colour:
    """The RGB colour of a class: a saturated one that depends on its name only."""
    drawn = zlib.crc32(name.encode())
    hue, lightness = (drawn % 1024) / 1024, (0.35, 0.5, 0.65)[drawn // 1024 % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 1.0))
    return red, green, blue


def _line_width(picture: Image.Image) -> int:
    return max(2, round(sum(picture.size) / 500))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # here: it is slow, and most commands draw nothing

    # has more scripts than PIL's own font, and is installed with matplotlib
    path = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, size)


def _write(
    draw: ImageDraw.ImageDraw,
    picture: Image.Image,
    text: str,
    corner: tuple[float, float],
    colour: Colour,
) -> None:
    """The text on a filled ground that stands on `corner`, or as near to it as the image allows."""
    font = _text_font(picture)
    width, height = _text_width(draw, text, font), sum(font.getmetrics())
    # whole pixels, so that the text is sharp; without room above the box inside of it
    left, top = (int(value) for value in corner)
    top = top - height if top >= height else top
    left = max(0, min(left, picture.width - width))
    top = max(0, min(top, picture.height - height))
    _put(draw, text, (left, top), (width, height), colour, font)


def _text_font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    return _font(max(11, round(sum(picture.size) / 90)))


def _margin(font: ImageFont.FreeTypeFont) -> int:
    return max(1, font.getmetrics()[0] // 6)


def _text_width(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont) -> int:
    return math.ceil(draw.textlength(text, font)) + 2 * _margin(font)


def _put(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    size: tuple[int, int],
    colour: Colour,
    font: ImageFont.FreeTypeFont,
) -> None:
    """The text on a ground of (width, height) pixels whose upper left corner this is."""
    (left, top), (width, height) = corner, size
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    draw.text((left + _margin(font), top), text, fill=_ink_on(colour), font=font)


def _ink_on(colour: Colour) -> str:
    """Black or white, whichever stands out more on a ground: WCAG 2.1, relative luminance."""
    shares = np.array(colour) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"
