"""`cvnets check RECIPE` of segmentation: sound masks pass, and each broken one is named."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import engine
from data.datasets.segmentation.pascal import NAMES
from engine.checks.masks import read_masks
from engine.checks.samples import first_of_training
from engine.checks.segmentation import ground_truth_as_predictions, samples
from engine.command_line import main
from engine.parts import build_task

TITLES = ["Data", "Masks", "Classes", "Ground truth as predictions: val", "Samples"]
DRAW = "engine.checks.segmentation.draw_examples"
VOID = (224, 224, 192)  # of VOC's palette


@pytest.fixture(autouse=True)
def drawing(request, monkeypatch):
    """Drawing takes a second: only for tests that look at the picture."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(DRAW, lambda examples, path: path.write_bytes(b"drawn"))


@pytest.fixture
def drawn(tmp_path) -> Path:
    """The picture, for tests that look at it."""
    return tmp_path / "results/run/check/samples.png"


@pytest.fixture
def doctor(segmentation_recipe, as_command, tmp_path, capsys):
    """Run `cvnets check`; gives the exit code, the lines of problems, and check.json by title."""

    def run(*words: str, **changes) -> tuple[int, list[str], dict]:
        code = main(["check", *as_command(segmentation_recipe, **changes)[1:], *words])
        problems = capsys.readouterr().err.splitlines()
        record = json.loads((tmp_path / "results/run/check/check.json").read_text())
        assert record["ok"] == (code == 0) == (not problems)
        return code, problems, {finding["title"]: finding for finding in record["findings"]}

    return run


@pytest.fixture
def broken(voc_folder, tmp_path):
    """A copy of the data set whose masks of a split are changed; gives the words that point to it."""

    def run(change: Callable[[int, np.ndarray], np.ndarray], split: str = "val") -> dict[str, str]:
        root = shutil.copytree(voc_folder, tmp_path / "voc")
        for number, path in enumerate(masks_of(root, split)):
            Image.fromarray(change(number, values(path))).save(path)
        return {"dataset.root_train": str(root), "dataset.root_val": str(root)}

    return run


def masks_of(root: Path, split: str) -> list[Path]:
    """The mask files of a split, in the order of its list."""
    name = {"train": "train_aug", "val": "val"}[split]
    lines = (root / f"VOC2012/list/{name}.txt").read_text().splitlines()
    return [root / "VOC2012" / line.split()[1].lstrip("/") for line in lines]


def values(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture
def source(segmentation_recipe):
    """Task and source of a split."""

    def build(split: str, **changes):
        recipe = {**segmentation_recipe, **changes}
        task = build_task(engine.load_recipe(recipe))
        return task, task.build_source(split)

    return build


# --- sound data ----------------------------------------------------------------------------------


def test_sound_masks_pass(doctor, drawn):
    code, problems, findings = doctor()
    assert (code, problems) == (0, [])
    assert list(findings) == TITLES
    assert findings["Ground truth as predictions: val"]["figures"]["iou"] == pytest.approx(100)
    picture = cv2.imread(str(drawn))
    assert min(picture.shape[:2]) > 4 * 300  # 4 x 4 images


@pytest.mark.parametrize("split", ["train", "val"])
def test_values_are_counted_as_they_stand_in_the_files(split, doctor, voc_folder):
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for path in masks_of(voc_folder, split):
        found, counts = np.unique(values(path), return_counts=True)
        pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        images.update(found.tolist())
    finding = doctor()[2]["Classes"]
    figures = finding["figures"][split]
    assert figures["values"] == {str(value): pixels[value] for value in sorted(pixels)}
    assert figures["classes"] == {
        name: {"value": value, "pixels": pixels[value], "images": images[value]}
        for value, name in enumerate(NAMES)
    }
    assert 0 < pixels[255] / pixels.total() == pytest.approx(figures["left_out"])
    column = {"train": 2, "val": 4}[split]
    table = {
        line.split()[0]: line.replace("(left out)", "out").split() for line in finding["lines"]
    }
    for value in (0, 3, 255):
        assert table[str(value)][column] == f"{pixels[value] / pixels.total():.2%}"
        assert table[str(value)][column + 1] == str(images[value])
    assert "20" not in table  # tvmonitor, which only the line below the table names
    absent = f"{split}: no pixel of {', '.join(NAMES[9:])}"
    assert absent in finding["lines"]


# --- broken masks --------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_value_that_nobody_declared_is_named_with_its_file(split, doctor, broken):
    def change(number, mask):
        if number == 4:
            mask[:2, :3] = 77
        return mask

    words = broken(change, split)
    code, problems, findings = doctor(**words)
    path = masks_of(Path(words["dataset.root_val"]), split)[4]
    assert code == 2
    assert len(problems) == 1
    assert f"dataset.root_{split}: {path}: the mask has values that" in problems[0]
    assert "77 (6 pixels)" in problems[0]
    assert [line.split(":")[0] for line in findings["Masks"]["figures"][split]["bad"]] == [
        str(path)
    ]
    assert list(findings) == TITLES  # the others are looked at nevertheless


def test_a_mask_of_another_size_and_one_that_is_none_are_named(doctor, broken):
    words = broken(lambda number, mask: mask[:-1] if number == 3 else mask)
    size, cut = (masks_of(Path(words["dataset.root_val"]), "val")[place] for place in (3, 7))
    cut.write_bytes(cut.read_bytes()[:60])
    problems = doctor(**words)[1]
    assert len(problems) == 2
    assert str(size) in problems[0] and "but its image" in problems[0]
    assert str(cut) in problems[1]


def test_of_many_bad_files_some_have_a_line(doctor, broken):
    words = broken(lambda number, mask: mask + np.uint8(40), "train")
    _, problems, findings = doctor(**words)
    assert len(problems) == 7
    assert problems[5].endswith("19 more of 24 files are bad, see check.json")
    assert problems[6].endswith("dataset.root_train: no image has a mask that can be used")
    assert len(findings["Masks"]["figures"]["train"]["bad"]) == 24
    assert list(findings) == TITLES[:-1]  # there is nothing to draw


def test_images_without_a_labelled_pixel_are_named(doctor, broken, voc_folder):
    def change(number, mask):
        return np.full_like(mask, 255) if number in (1, 2) else mask

    code, _, findings = doctor(**broken(change, "train"))
    names = [f"{path.stem}.jpg" for path in masks_of(voc_folder, "train")[1:3]]
    assert code == 0
    assert findings["Classes"]["figures"]["train"]["unlabelled"] == names
    line = f"train: 2 images without any labelled pixel, e.g. {', '.join(names)}"
    assert line in findings["Classes"]["lines"]


def test_masks_without_any_class_are_a_problem(doctor, broken):
    _, problems, _ = doctor(**broken(lambda number, mask: np.full_like(mask, 255)))
    assert [re.sub("^.*(dataset)", r"\1", problem) for problem in problems] == [
        "dataset.root_val: no image has a labelled pixel",
        "dataset.root_val: no labelled pixel in 19 images",
    ]


def test_a_class_of_validation_that_training_lacks_is_a_problem(doctor, broken):
    def change(number, mask):
        return np.where(mask == 3, 0, mask).astype(np.uint8)

    code, problems, findings = doctor(**broken(change, "train"))
    assert code == 2
    assert len(problems) == 1
    assert "dataset.root_train: no pixel of bird to learn from, but validation has" in problems[0]
    assert any(
        line.startswith("train: no pixel of bird, ") for line in findings["Classes"]["lines"]
    )


def test_the_number_of_classes_must_fit(doctor):
    _, problems, findings = doctor(**{"model.segmentation.n_classes": 20})
    assert len(problems) == 2
    assert all("n_classes: 20 in the recipe, but" in problem for problem in problems)
    assert list(findings) == ["Data"]


def test_of_a_large_set_some_are_read(doctor, broken, monkeypatch):
    monkeypatch.setattr("engine.checks.masks.MOST", 10)

    def change(number, mask):
        return np.where(mask == 3, 0, mask).astype(np.uint8)

    code, _, findings = doctor(**broken(change, "train"))
    assert code == 0  # that the others have no bird either, nobody knows
    masks = findings["Masks"]
    assert masks["figures"]["train"] == {"images": 24, "read": 10, "bad": []}
    assert (
        "10 of 10 images with their masks are fine (drawn at random of 24, seed 0)"
        in masks["lines"][0]
    )
    assert any(line.endswith(" in those read") for line in findings["Classes"]["lines"])
    assert len(findings) == len(TITLES)


def test_those_that_are_read_are_others_than_the_first(source, monkeypatch):
    monkeypatch.setattr("engine.checks.masks.MOST", 10)
    _, train = source("train")
    masks, again = (read_masks(train.dataset, "train") for _ in range(2))
    assert np.array_equal(masks.places, again.places)
    assert len(set(masks.places.tolist())) == 10
    assert masks.places.max() >= 10
    assert not masks.whole


# --- ground truth as predictions -----------------------------------------------------------------


@pytest.mark.parametrize("absent", ["exclude", "zero"])
def test_a_fault_on_the_way_of_the_evaluation_shows(absent, source, monkeypatch):
    task, val = source("val", **{"stats.iou.absent_classes": absent})
    masks = read_masks(val.dataset, "val")
    finding = ground_truth_as_predictions(task, task.labels, val, "val", masks)
    assert finding.ok
    assert "mIoU 100.00 % over 9 classes in 19 images" in finding.lines[0]
    told = [line for line in finding.lines if "count as 0" in line]
    assert len(told) == (absent == "zero")
    if told:
        assert "12 classes do not occur" in told[0] and f"at most {100 * 9 / 21:.1f} %" in told[0]
    sound_way = task.postprocess
    monkeypatch.setattr(task, "postprocess", lambda *a: [m.roll(1, 1) for m in sound_way(*a)])
    finding = ground_truth_as_predictions(task, task.labels, val, "val", masks)
    assert not finding.ok
    assert "ground truth as predictions has mIoU" in finding.problems[0]


# --- samples -------------------------------------------------------------------------------------


def test_samples_show_what_training_sees(source, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(DRAW, lambda examples, path: shown.extend(examples))
    task, train = source("train")
    samples(task, task.labels, train, tmp_path / "samples.png")
    found, _ = first_of_training(task, train)
    assert len(shown) == len(found) == 16
    assert len({example.image.shape for example in shown}) > 1
    void = 0
    for example, (batch, place) in zip(shown, found, strict=True):
        image, mask = batch.images[place].numpy(), batch.targets["mask"][place].numpy()
        assert f"{mask.shape[0]}x{mask.shape[1]}, {(mask == 255).mean():.0%} left" in example.title
        for value, colour in ((255, VOID), (0, (0, 0, 0)), (2, (0, 128, 0)), (5, (128, 0, 128))):
            there = mask == value
            void += int(there.sum()) * (value == 255)
            mean = (image.transpose(1, 2, 0)[there].astype(int) + colour) / 2
            assert np.abs(example.image[there] - mean).max(initial=0) <= 0.5
        assert ("bottle" in example.title) <= (mask == 5).any()
    assert void > 100


def test_an_image_that_is_bad_does_not_stop_the_samples(doctor, broken):
    def change(number, mask):
        return np.full_like(mask, 99) if number < 20 else mask

    findings = doctor(**broken(change, "train"))[2]
    assert findings["Samples"]["lines"][0].startswith("4 images as training sees them")
