"""`cvnets predict`, and the pictures of `main_eval.py`: images in, lines, JSON and pictures out."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import engine
import engine.prediction as prediction
from config.errors import UserError
from cvnets.weights.files import METADATA
from data.datasets.shapes.layouts import COCO_IDS
from data.images import EXTENSIONS, read_image
from engine.command_line import main
from engine.image_files import find_images, picture_paths
from engine.prediction import predict_files
from engine.tasks.classification import Classification

PAGE = Path(__file__).parent.parent.parent / "docs/predict.md"
PLUGIN = f"common.plugins={Path(__file__).parent.parent / 'plugins/tiny_models.py'}"
CPU = "common.device=cpu"
COUNT = len(COCO_IDS) + 1  # classes of the detector, and the background


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train a recipe, once for all tests; its run folder."""
    made: dict[str, Path] = {}

    def train(name: str, recipe: dict, **changes) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            given = recipe | {"common.results_loc": str(folder)} | changes
            ratios = "anchor_generator.ssd.aspect_ratios"
            given |= {ratios: json.loads(given[ratios])} if ratios in given else {}
            made[name] = Path(engine.train(engine.load_recipe(given))["run"])
        return made[name]

    return train


@pytest.fixture
def classifier(runs, tiny_recipe) -> Path:
    """Weights of the tiny network, trained so that some predictions are right."""
    return runs("classifier", tiny_recipe, **{"scheduler.max_epochs": 8}) / "checkpoint_best.pt"


@pytest.fixture
def detector(runs, detection_recipe) -> Path:
    """Weights of a small SSDLite, trained for two epochs."""
    return runs("detector", detection_recipe) / "checkpoint_best.pt"


@pytest.fixture
def photos(image_folder, tmp_path) -> Path:
    """Six images in a folder with two below it."""
    root = tmp_path / "photos"
    for number, name in enumerate(("across", "down")):
        (root / name).mkdir(parents=True)
        for place in range(3):
            shutil.copy(image_folder / f"val/{name}/{place:03}.jpg", root / name)
            (root / name / f"{place:03}.jpg").rename(root / name / f"p{number}{place}.jpg")
    return root


def predict(weights: Path, *words) -> int:
    return main(["predict", str(weights), *map(str, words), CPU])


def write_recipe(recipe: dict, path: Path) -> Path:
    """The recipe without its data, as a file."""
    given = {key: value for key, value in recipe.items() if "root" not in key}
    ratios = "anchor_generator.ssd.aspect_ratios"
    given |= {ratios: json.loads(given[ratios])} if ratios in given else {}
    path.write_text(json.dumps(given))
    return path


def rows(path: Path) -> list[dict]:
    return json.loads(path.read_text())


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def content(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- which images --------------------------------------------------------------------------------


def names(*words) -> list[str]:
    return [file.name for file in find_images([str(word) for word in words])]


def numbers(*words) -> list[int]:
    return [file.number for file in find_images([str(word) for word in words])]


def test_folders_are_searched_to_the_bottom_and_sorted(tmp_path):
    touch(tmp_path, "b/2.JPG", "b/c/1.webp", "a.png", "b/1.jpg", "notes.txt", "b/2.json", "z.tiff")
    assert names(tmp_path) == ["a.png", "b/1.jpg", "b/2.JPG", "b/c/1.webp", "z.tiff"]
    # names are relative to the folder around all images, not to what was given
    assert names(tmp_path / "b") == ["1.jpg", "2.JPG", "c/1.webp"]
    assert names(tmp_path / "b/c", tmp_path / "b/1.jpg") == ["1.jpg", "c/1.webp"]
    assert names(tmp_path / "a.png") == ["a.png"]


def test_patterns_and_repetitions(tmp_path, monkeypatch):
    touch(tmp_path, "b/2.jpg", "b/1.jpg", "b/1.txt", "c/3.jpg", "c/d/4.jpg", "odd", "a=1.jpg")
    assert names(tmp_path / "b/*") == ["1.jpg", "2.jpg"]
    assert names(tmp_path / "*/*.jpg") == ["b/1.jpg", "b/2.jpg", "c/3.jpg"]
    assert names(tmp_path / "**/[34].jpg") == ["3.jpg", "d/4.jpg"]
    assert names(tmp_path / "c*") == ["3.jpg", "d/4.jpg"]  # what a folder of the pattern holds
    assert names(tmp_path / "odd") == ["odd"]  # named by itself, an image may be called anything
    monkeypatch.chdir(tmp_path)
    assert names("b", "b/1.jpg", "./b/../b/2.jpg", tmp_path / "b/*.jpg") == ["1.jpg", "2.jpg"]


def test_numbers_are_those_of_the_names_or_else_places(tmp_path):
    touch(tmp_path, "coco/000000000139.jpg", "coco/000000000071.jpg")
    assert numbers(tmp_path / "coco") == [71, 139]
    touch(tmp_path, "coco/a.jpg")
    assert numbers(tmp_path / "coco") == [1, 2, 3]
    touch(tmp_path, "twice/a/7.jpg", "twice/b/07.jpg", "twice/b/8.jpg")
    assert numbers(tmp_path / "twice") == [1, 2, 3]
    assert numbers(tmp_path / "twice/b") == [7, 8]


def test_pictures_have_the_names_of_their_images_and_no_two_share_one(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/1.png", "b/2.PNG", "odd", "odd.png")
    files = find_images([str(tmp_path), str(tmp_path / "odd")])
    out = tmp_path / "out"
    paths = picture_paths(files, out)
    assert {name: str(path.relative_to(out)) for name, path in paths.items()} == {
        **{name: name for name in ("a/1.jpg", "b/1.jpg", "b/1.png", "b/2.PNG")},
        **{"odd": "odd.png", "odd.png": "odd_2.png"},  # no format goes without an ending
    }
    official = picture_paths(files, out, ".jpg").values()
    assert [str(path.relative_to(out)) for path in official] == [
        *("a/1.jpg", "b/1.jpg", "b/1_2.jpg", "b/2.jpg", "odd.jpg", "odd_2.jpg")
    ]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("nowhere", "nowhere: no such image or folder, and no file of this pattern"),
        ("*.jpeg", "*.jpeg: no such image or folder, and no file of this pattern"),
        ("texts", "texts: no image in it (.jpg, "),
        ("texts/*", "texts/*: no image in it (.jpg, "),
    ],
)
def test_a_word_without_images_is_a_mistake(word, line, tmp_path, monkeypatch):
    touch(tmp_path, "texts/a.txt", "b.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        find_images(["b.jpg", word])
    assert str(error.value).startswith(line)


# --- classification ------------------------------------------------------------------------------


def test_predictions_are_as_right_as_evaluation_says(classifier, image_folder, tmp_path):
    """The share of right labels is the top-1 of the checkpoint, whatever the batches are."""
    found = []
    for batch in (1, 7, 64):
        out = tmp_path / f"{batch}.json"
        assert (
            predict(classifier, image_folder / "val", PLUGIN, "--json", out, "--batch", batch) == 0
        )
        found.append(rows(out))
        right = [row["label"] == row["file_name"].split("/")[0] for row in found[-1]]
        summary = json.loads((classifier.parent / "summary.json").read_text())
        assert len(right) == 33
        assert 40 < summary["top1"] < 100
        assert 100 * sum(right) / 33 == pytest.approx(summary["top1"])
    for one, other in zip(found[0], found[1], strict=True):
        assert one["file_name"] == other["file_name"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert list(one["top"].values()) == sorted(one["top"].values(), reverse=True)
        assert one["top"][one["label"]] == one["probability"]
        assert sum(one["top"].values()) == pytest.approx(1, abs=1e-5)  # of three classes all


def test_the_terminal_shows_the_top_classes(classifier, photos, capsys):
    predictor = engine.load(classifier, [PLUGIN])
    expected = predictor.predict(photos / "down/p11.jpg").probabilities
    assert predict(classifier, photos, PLUGIN) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("down/p11.jpg: "))
    shown = ", ".join(f"{name} {value:.1%}" for name, value in expected.items())
    assert line == f"down/p11.jpg: {shown}"
    assert [line.split(":")[0] for line in lines if ".jpg: " in line] == names(photos)
    assert lines[-1] == "6 images"


def test_quiet_prints_nothing(classifier, photos, tmp_path, capsys):
    assert predict(classifier, photos, PLUGIN, "-q", "--json", tmp_path / "r.json") == 0
    assert capsys.readouterr().out == ""
    assert len(rows(tmp_path / "r.json")) == 6


def test_a_caption_is_drawn_on_copies_of_the_images(classifier, photos, tmp_path):
    before, out = content(photos), tmp_path / "new/out"
    assert predict(classifier, photos, PLUGIN, "--save-images", out) == 0
    assert content(photos) == before
    assert list(content(out)) == names(photos)
    for name in names(photos):
        image, drawn = read_image(photos / name), read_image(out / name)
        assert image.shape == drawn.shape
        difference = np.abs(image.astype(int) - drawn).max(-1)
        assert difference[:12].max() > 100
        assert difference[24:].max() < 80  # JPEG


def test_every_format_that_is_read_is_written(classifier, tmp_path):
    image = np.full((64, 64, 3), 128, np.uint8)
    (tmp_path / "in").mkdir()
    for ending in EXTENSIONS:
        encoded = cv2.imencode(".png" if ending == ".pgm" else ending, image)[1]
        (tmp_path / f"in/image{ending}").write_bytes(encoded)
    assert predict(classifier, tmp_path / "in", PLUGIN, "--save-images", tmp_path / "out") == 0
    for ending in EXTENSIONS:
        drawn = read_image(tmp_path / f"out/image{ending}")
        assert drawn.shape == image.shape
        assert np.abs(drawn[40:].astype(int) - 128).max() < 3
        assert np.ptp(drawn[:12], axis=-1).max() > 50  # in colour


# --- weights with a recipe -----------------------------------------------------------------------


@pytest.fixture
def bare(classifier, tiny_recipe, tmp_path) -> tuple[Path, Path]:
    """The weights without what we write into them, and a recipe without its data."""
    state = torch.load(classifier, weights_only=True)
    state._metadata.pop(METADATA)
    torch.save(state, tmp_path / "bare,weights.pt")
    return tmp_path / "bare,weights.pt", write_recipe(tiny_recipe, tmp_path / "r.yaml")


def test_weights_without_a_recipe_need_one(
    classifier, bare, photos, tmp_path, image_folder, capsys
):
    weights, recipe = bare
    with_recipe = ["--recipe", recipe, "--json", tmp_path / "r.json", "--overwrite"]
    assert predict(classifier, photos, PLUGIN, "--json", tmp_path / "own.json") == 0
    own = rows(tmp_path / "own.json")
    assert predict(weights, photos) == 2
    assert "carries no recipe" in capsys.readouterr().err
    # nothing says how many classes there are
    assert predict(weights, photos, *with_recipe) == 2
    assert "model.classification.n_classes: not given" in capsys.readouterr().err
    # their number, without names
    assert predict(weights, photos, *with_recipe, "model.classification.n_classes=3") == 0
    order = {"0": "across", "1": "down", "2": "slant"}
    numbered = rows(tmp_path / "r.json")
    assert [order[row["label"]] for row in numbered] == [row["label"] for row in own]
    # the names of the data set, if it is there
    data = f"dataset.root_val={image_folder / 'val'}"
    assert predict(weights, photos, *with_recipe, data) == 0
    assert rows(tmp_path / "r.json") == own
    # names in the weights win over those of the data
    assert predict(classifier, photos, *with_recipe) == 0
    assert rows(tmp_path / "r.json") == own


def test_weights_that_do_not_fill_the_network_are_refused(bare, photos, capsys):
    weights, recipe = bare
    state = OrderedDict(torch.load(weights, weights_only=True))
    state.pop("6.weight")
    torch.save(state, weights)
    words = ["--recipe", recipe, "model.classification.n_classes=3"]
    assert predict(weights, photos, *words) == 2
    assert predict(weights, photos, *words, "model.ignore_missing_scopes=6.*") == 2
    error = capsys.readouterr().err.splitlines()
    assert "evaluation needs all weights" in error[-1]


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "cvnets predict: weights and images are needed"),
        (["w.pt"], "cvnets predict: weights and images are needed"),
        (["w.pt", "a.b=1"], "cvnets predict: weights and images are needed"),
        (["w.pt", "x", "--batch", "0"], "cvnets predict: argument --batch: a number from 1 on"),
        (["w.pt", "x", "--min-score", "2"], "cvnets predict: argument --min-score: a number from"),
        (["w.pt", "x", "--min-score", "a"], "cvnets predict: argument --min-score: a number from"),
        (["w.pt", "x", "--json", "r.txt"], "--json r.txt: a name that ends in .json"),
        (["w.pt", "x", "--common.device", "cpu"], "cvnets predict: unrecognized arguments: --comm"),
        (["w.pt", "x"], "x: no such image or folder"),
        (["w.pt", "a=1.jpg"], "w.pt: "),  # there is such a file, so it is no option
    ],
)
def test_a_mistake_is_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a=1.jpg")
    assert main(["predict", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1


def test_unreadable_images_are_named_at_the_end_and_the_others_are_done(
    classifier, photos, tmp_path, capsys
):
    whole = (photos / "across/p01.jpg").read_bytes()
    (photos / "across/p01.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "down/p10.jpg").write_bytes(b"")
    words = ["--json", tmp_path / "r.json", "--save-images", tmp_path / "out", "--batch", 2]
    assert predict(classifier, photos, PLUGIN, *words) == 2
    done = capsys.readouterr()
    assert done.err.splitlines() == [
        f"{photos}/across/p01.jpg: a truncated JPEG",
        f"{photos}/down/p10.jpg: the file is empty",
    ]
    good = [name for name in names(photos) if name not in ("across/p01.jpg", "down/p10.jpg")]
    assert [row["file_name"] for row in rows(tmp_path / "r.json")] == good
    assert list(content(tmp_path / "out")) == good
    assert done.out.splitlines()[-1].startswith("6 images, 2 of them unreadable: ")


def test_nothing_is_replaced_without_a_word(classifier, photos, tmp_path, capsys):
    out, results = tmp_path / "out", tmp_path / "r.json"
    touch(out, "mine.txt")
    results.write_text("mine")
    assert predict(classifier, photos, PLUGIN, "--save-images", out) == 2
    assert predict(classifier, photos, PLUGIN, "--save-images", results) == 2
    assert predict(classifier, photos, PLUGIN, "--json", results) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"--save-images: {out} is not empty; choose another name, or give --overwrite",
        f"--save-images: {results} is no folder; choose another name",
        f"--json: {results} is there already; choose another name, or give --overwrite",
    ]
    assert results.read_text() == "mine"
    words = ["--save-images", out, "--json", results, "--overwrite"]
    assert predict(classifier, photos, PLUGIN, *words) == 0
    assert len(rows(results)) == 6
    assert set(content(out)) == {"mine.txt", *names(photos)}


def test_an_image_is_never_replaced(classifier, photos, tmp_path, capsys):
    before = content(photos)
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/x.jpg").symlink_to(photos / "down/p10.jpg")
    for images, out in (
        (photos, photos),
        (photos, tmp_path / "link"),
        (photos / "down", photos / "across/../down"),
        (photos / "down/p10.jpg", photos / "down"),
        (tmp_path / "linked", photos / "down"),
        (tmp_path / "linked", tmp_path / "linked"),
        ([photos / "down", photos / "across/p00.jpg"], photos),
    ):
        images = images if isinstance(images, list) else [images]
        assert predict(classifier, *images, PLUGIN, "--save-images", out, "--overwrite") == 2
        assert "the images themselves are in it; choose another" in capsys.readouterr().err
    assert content(photos) == before
    # beside them is allowed, and once it is there its pictures are images of the folder, too
    out = photos / "out"
    assert predict(classifier, photos, PLUGIN, "--save-images", out) == 2
    assert predict(classifier, photos, PLUGIN, "--save-images", out, "--overwrite") == 2


def test_an_interrupted_prediction_leaves_no_results(classifier, photos, tmp_path, monkeypatch):
    results = tmp_path / "new/r.json"
    read = prediction.read_image

    def interrupted(path):
        if path.name == "p11.jpg":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(prediction, "read_image", interrupted)
    code = predict(classifier, photos, PLUGIN, "--json", results, "--batch", 2)
    assert code == 130
    assert list(results.parent.iterdir()) == []


def test_a_file_in_the_way_of_a_folder(classifier, photos, tmp_path, capsys):
    touch(tmp_path, "file")
    for words in (["--json", "file/r.json"], ["--save-images", "file/out"]):
        assert predict(classifier, photos, PLUGIN, words[0], tmp_path / words[1]) == 2
        assert "cannot write: " in capsys.readouterr().err


def test_at_most_two_batches_are_in_memory(classifier, photos, monkeypatch):
    read = []
    monkeypatch.setattr(
        prediction, "read_image", lambda path: read.append(path) or read_image(path)
    )
    predictor = engine.load(classifier, [PLUGIN])
    seen = 0
    for outcome in predict_files(predictor, find_images([str(photos)]), 1):
        seen += 1
        assert len(read) <= seen + 1
        assert outcome.found.label in predictor.class_names
    assert seen == len(read) == 6


# --- detection -----------------------------------------------------------------------------------


def average_precision(annotations: Path, results: Path) -> np.ndarray:
    """The twelve numbers of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_json_of_a_detector_scores_what_evaluation_measures(
    detector, coco_folder, tmp_path, capsys
):
    """All detections are in it, at the right place, under the ids of images and categories."""
    results = tmp_path / "r.json"
    words = ["--json", results, "--min-score", "0.99", "--batch", "5"]
    assert predict(detector, coco_folder / "val2017", *words) == 0
    stats = average_precision(coco_folder / "annotations/instances_val2017.json", results)
    summary = json.loads((detector.parent / "summary.json").read_text())
    assert summary["coco_map.bbox"] > 0
    assert 100 * stats[0] == pytest.approx(summary["coco_map.bbox"], abs=0.01)
    assert 100 * stats[8] == pytest.approx(summary["coco_map.ar_100"], abs=0.01)
    for row in rows(results):
        assert set(row) == {"image_id", "category_id", "bbox", "score", "file_name"}
        assert int(Path(row["file_name"]).stem) == row["image_id"]
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(".jpg: nothing found") for line in lines) == 19


def test_least_score_counts_for_lines_and_pictures(detector, coco_folder, tmp_path, capsys):
    name = "000000000002.jpg"
    image = coco_folder / "val2017" / name
    predictor = engine.load(detector, [CPU])
    found = predictor.predict(image)
    least = float(found.scores[len(found) // 2])
    label = found.labels[0]
    expected = sum(
        score >= least and other == label
        for score, other in zip(found.scores, found.labels, strict=True)
    )
    assert predict(detector, image, "--min-score", least, "--save-images", tmp_path / "some") == 0
    assert f"{name}: {expected} {label} ({found.scores[0]:.0%}" in capsys.readouterr().out
    assert predict(detector, image, "--min-score", "1", "--save-images", tmp_path / "none") == 0
    pixels = read_image(image).astype(int)
    assert np.abs(read_image(tmp_path / "none" / name) - pixels).max() < 100  # JPEG
    assert np.abs(read_image(tmp_path / "some" / name) - pixels).max() > 150


def test_names_of_classes_without_metadata(
    detector, detection_recipe, coco_folder, tmp_path, capsys
):
    """Those of the data if they are there, COCO's if there are 80, else numbers."""
    recipe = write_recipe(detection_recipe, tmp_path / "r.yaml")
    state = torch.load(detector, weights_only=True)
    state._metadata.pop(METADATA)
    torch.save(state, tmp_path / "bare.pt")
    words = ["--recipe", recipe, "--json", tmp_path / "r.json", "--overwrite", "--min-score", "0"]
    image = coco_folder / "val2017/000000000002.jpg"
    assert predict(tmp_path / "bare.pt", image, *words) == 2
    assert "model.detection.n_classes: not given" in capsys.readouterr().err
    assert predict(tmp_path / "bare.pt", image, *words, f"dataset.root_val={coco_folder}") == 0
    named, line = rows(tmp_path / "r.json"), capsys.readouterr().out
    assert "square (" in line
    assert {row["category_id"] for row in named} <= set(COCO_IDS)
    assert predict(tmp_path / "bare.pt", image, *words, f"model.detection.n_classes={COUNT}") == 0
    numbered, line = rows(tmp_path / "r.json"), capsys.readouterr().out
    assert re.search(r"\d+ [1-8] \(\d+%", line)
    # the n-th category in the order of the ids
    places = {category: place for place, category in enumerate(sorted(COCO_IDS), 1)}
    assert [places[row["category_id"]] for row in named] == [row["category_id"] for row in numbered]


# --- the official way ----------------------------------------------------------------------------


@pytest.fixture
def official(detector, detection_recipe, tmp_path):
    """Run `main_eval.py` with options of `evaluation.detection`; its exit code."""
    recipe = write_recipe(detection_recipe, tmp_path / "r.yaml")

    def run(*words, weights=detector) -> int:
        given = ["--common.config-file", recipe, "--model.detection.pretrained", weights]
        keys = [w.replace("--", "--evaluation.detection.") if w in SHORT else w for w in words]
        return main(["eval", *map(str, [*given, *keys])])

    return run


SHORT = ("--mode", "--path", "--num-classes")


def test_official_modes_draw_an_image_or_a_folder(official, coco_folder, tmp_path, capsys):
    image = coco_folder / "val2017/000000000002.jpg"
    out = tmp_path / "results/run/detection_results"
    assert official("--mode", "single_image", "--path", image) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"pictures: {out}"
    assert list(content(out)) == ["000000000002.jpg"]
    pixels = read_image(image).astype(int)
    assert np.abs(read_image(out / image.name) - pixels).max() > 150
    # what is there is not replaced, but its folder can be added to
    assert official("--mode", "single_image", "--path", image) == 2
    assert "000000000002.jpg: is there already; remove it, or" in capsys.readouterr().err
    folder = tmp_path / "pngs/below"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "x.png"), pixels[:, :, ::-1])
    cv2.imwrite(str(tmp_path / "pngs/y.JPEG"), pixels[:, :, ::-1])
    (tmp_path / "pngs/z.png").write_bytes(b"")
    assert official("--mode", "image_folder", "--path", tmp_path / "pngs") == 2
    done = capsys.readouterr()
    assert done.err == f"{tmp_path / 'pngs/z.png'}: the file is empty\n"
    assert done.out.splitlines()[-1] == f"pictures: {out}"
    assert list(content(out)) == ["000000000002.jpg", "below/x.jpg", "y.jpg"]
    assert not (tmp_path / "results/run/evaluations").exists()


def test_official_modes_draw_what_the_network_reports(official, coco_folder, tmp_path, capsys):
    """The limit is that of the network."""
    image = coco_folder / "val2017/000000000002.jpg"
    words = ["--mode", "single_image", "--path", image, "--model.detection.ssd.conf-threshold"]
    assert official(*words, "0.999") == 0
    assert "000000000002.jpg: nothing found" in capsys.readouterr().out


def test_classes_of_official_modes_can_be_given(official, detector, coco_folder, tmp_path, capsys):
    image = coco_folder / "val2017/000000000002.jpg"
    words = ["--mode", "single_image", "--path", image]
    state = torch.load(detector, weights_only=True)
    state._metadata.pop(METADATA)
    torch.save(state, tmp_path / "bare.pt")
    assert official(*words, weights=tmp_path / "bare.pt") == 2
    assert "n_classes: not given" in capsys.readouterr().err
    assert official(*words, "--num-classes", COUNT + 1, weights=tmp_path / "bare.pt") == 2
    capsys.readouterr()
    assert official(*words, "--num-classes", COUNT, weights=tmp_path / "bare.pt") == 0
    assert re.search(r"\.jpg: \d+ [1-8] \(", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--mode", "single_image"], "an image is expected (nothing given)"),
        (["--mode", "single_image", "--path", "."], "an image is expected (. given)"),
        (["--mode", "image_folder", "--path", "no"], "a folder of images is expected (no given)"),
    ],
)
def test_images_of_official_modes_must_be_there(official, words, line, capsys):
    assert official(*words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith(f"evaluation.detection.path: {line}\n")


def test_evaluation_of_a_detector_prints_percent_and_its_reports(
    detector, coco_folder, tmp_path, capsys
):
    place = f"common.results_loc={tmp_path}"
    assert main(["eval", str(detector), place, "evaluation.detection.mode=validation_set"]) == 0
    lines = capsys.readouterr().out.splitlines()
    folder = tmp_path / "run/evaluations/checkpoint_best"
    assert lines[-1] == f"pictures: {folder}"
    metrics = json.loads((folder / "evaluation.json").read_text())["metrics"]
    table = {line.split("│")[1].strip(): line for line in lines if line.count("│") == 3}
    assert f"{metrics['coco_map.bbox']:.4g}" in table["coco_map.bbox (%)"]
    assert "loss" in table
    assert {path.name for path in folder.iterdir()} >= {"per_class.csv", "precision_recall.png"}


def test_evaluation_prints_the_lines_of_reports(classifier, tmp_path, capsys, monkeypatch):
    class Gist:
        def lines(self) -> list[str]:
            return ["the gist", "of it"]

        def write(self, folder: Path) -> None:
            (folder / "gist.txt").touch()

    monkeypatch.setattr(Classification, "reports", lambda *arguments: (Gist(), Gist()))
    assert main(["eval", str(classifier), PLUGIN, f"common.results_loc={tmp_path}"]) == 0
    folder = tmp_path / "run/evaluations/checkpoint_best"
    lines = ["the gist", "of it", "the gist", "of it", f"pictures: {folder}"]
    assert capsys.readouterr().out.splitlines()[-5:] == lines
    assert (folder / "gist.txt").exists()
    assert "lines" not in json.loads((folder / "evaluation.json").read_text())


def test_commands_of_the_page(detector, coco_folder, tmp_path, monkeypatch, capsys):
    """With the folders that it speaks of, and a detector of COCO that has learnt nothing."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(detector.parent, "results/scenes")
    shutil.copytree(coco_folder / "val2017", "photos")
    for path in sorted(Path("photos").iterdir())[3:]:
        path.unlink()
    name = "detection/ssd_coco/mobilevit_xx_small"
    untrained = ["model.detection.n_classes=81", "model.classification.pretrained=null"]
    recipe = engine.load_recipe(name, untrained)
    torch.save(engine.build_model(recipe).state_dict(), "ssd_xxs.pt")
    lines = re.findall(r"^(cvnets .*)", PAGE.read_text(), re.M)
    for line in lines:
        assert main([*shlex.split(line)[1:], "--common.device=cpu" if "eval" in line else CPU]) == 0
    assert len(lines) == 4
    assert len(content(Path("drawn"))) == 3
    assert {row["image_id"] for row in rows(Path("found.json"))} <= {2, 5, 8}
    assert len(content(Path("results/ssd_mobilevit_xx_small/detection_results"))) == 3
