"""Boxes and captions: where they are, that they can be read, and that nothing else changes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from engine.drawing import colour_of, draw_boxes, draw_caption

GREY = 128
NAMES = [f"class {number}" for number in range(200)]


def canvas(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def boxed(image, *boxes, names=None, scores=None):
    names = names or ["dog"] * len(boxes)
    return draw_boxes(image, np.array(boxes, np.float64).reshape(-1, 4), names, scores)


def is_colour(image: np.ndarray, name: str) -> np.ndarray:
    return (image == colour_of(name)).all(-1)


def ink(image: np.ndarray, name: str) -> int:
    """Pixels of letters: neither ground of the label nor of the image."""
    return int((~is_colour(image, name) & (image != GREY).any(-1)).sum())


def luminance(colour) -> float:
    """WCAG 2.1, relative luminance, as its definition spells it."""
    parts = [c / 255 for c in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_line_runs_inside_the_box_and_nothing_else_changes():
    image = canvas()
    before = image.copy()
    drawn = boxed(image, (100, 120, 180, 200))
    assert np.array_equal(image, before)
    inside = np.zeros(image.shape[:2], bool)
    inside[120:200, 100:180] = True
    inside[122:198, 102:178] = False
    line = is_colour(drawn, "dog")
    assert line[inside].all()
    assert not line[122:, :][~inside[122:, :]].any()
    assert (drawn[122:198, 102:178] == GREY).all()
    rows, columns = np.nonzero((drawn != GREY).any(-1))
    assert rows.min() >= 100  # the label stands on the box
    assert rows.max() == 199
    assert columns.min() == 100


def test_without_boxes_it_is_a_copy():
    image = canvas()
    drawn = boxed(image)
    assert np.array_equal(drawn, image)
    drawn[0] = 0  # it can be written to, and the image is another one
    assert image[0].min() == GREY


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 40, 30),
        (300, 0, 320, 12),
        (0, 235, 30, 240),
        (310, 230, 320, 240),
        (310, 3, 310, 3),
        (-60, -50, -20, -10),
        (500, 400, 600, 500),
    ],
)
def test_a_label_is_whole_wherever_the_box_is(box):
    """As many pixels of letters as in the middle of the image."""
    expected = ink(boxed(canvas(), (150, 120, 160, 130), scores=np.array([0.5])), "dog")
    assert expected > 50
    drawn = boxed(canvas(), box, scores=np.array([0.5]))
    assert ink(drawn, "dog") == expected


def test_the_score_is_written_if_there_is_one():
    plain = boxed(canvas(), (100, 100, 200, 200))
    scored = boxed(canvas(), (100, 100, 200, 200), scores=np.array([0.87]))
    other = boxed(canvas(), (100, 100, 200, 200), scores=np.array([0.42]))
    assert ink(scored, "dog") > 1.5 * ink(plain, "dog")
    assert not np.array_equal(scored, other)


def test_the_surest_is_on_top():
    box = (100, 100, 200, 200)
    for scores, top in (((0.9, 0.4), "cat"), ((0.4, 0.9), "dog")):
        drawn = boxed(canvas(), box, box, names=["cat", "dog"], scores=np.array(scores))
        assert is_colour(drawn, top)[199, 100:200].all()


def test_no_line_crosses_a_text():
    """The second box runs through the label of the first, and is drawn behind it."""
    alone = boxed(canvas(), (100, 100, 200, 200))
    both = boxed(canvas(), (100, 100, 200, 200), (105, 40, 300, 220), names=["dog", "cat"])
    assert is_colour(both, "cat")[60, 105:107].all()
    assert np.array_equal(both[90:100, 100:110], alone[90:100, 100:110])


def test_line_and_letters_grow_with_the_image():
    def measure(size: int) -> tuple[int, int]:
        box = (0.3 * size, 0.3 * size, 0.7 * size, 0.7 * size)
        drawn = boxed(canvas(size, size), box)
        row = is_colour(drawn, "dog")[size // 2]
        return int(row.sum()) // 2, ink(drawn, "dog")

    (thin, small), (thick, large) = measure(320), measure(1600)
    assert thin == 2
    assert thick == 6
    assert large > 4 * small


def test_a_class_has_its_colour_in_every_process():
    """Not by `hash`, which differs from process to process."""
    code = "from engine.drawing import colour_of; print(colour_of('dog'), colour_of('Straße'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{colour_of('dog')} {colour_of('Straße')}"
    assert len({colour_of(name) for name in NAMES}) > 180


def test_letters_stand_out_from_their_ground():
    """Contrast of WCAG 2.1: 4.5 is what it asks of normal text."""
    for name in NAMES:
        drawn = draw_caption(canvas(), name, name)
        letters = drawn[(~is_colour(drawn, name)) & (drawn != GREY).any(-1)]
        ground = luminance(colour_of(name))
        best = max(
            (max(luminance(c), ground) + 0.05) / (min(luminance(c), ground) + 0.05)
            for c in (letters[letters.sum(1).argmin()], letters[letters.sum(1).argmax()])
        )
        assert best >= 4.5


def test_a_caption_stands_in_the_corner():
    drawn = draw_caption(canvas(), "a dog 93%", "dog")
    rows, columns = np.nonzero((drawn != GREY).any(-1))
    assert (rows.min(), columns.min()) == (0, 0)
    assert rows.max() < 20
    assert columns.max() < 80
    assert is_colour(drawn, "dog")[0, : columns.max() + 1].all()


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3)])
def test_an_image_too_small_for_its_label_is_no_error(size):
    drawn = boxed(canvas(*size), (0, 0, size[1], size[0]), names=["a long name of a class"])
    assert drawn.shape == (*size, 3)
