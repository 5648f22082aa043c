"""Segmentation of single images: lines, COCO results, pictures, and the official modes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as encoder
from pycocotools.coco import COCO

import engine
from data.datasets.segmentation.labels import Labels
from data.datasets.segmentation.pascal import LABELS
from data.datasets.shapes import generate
from data.images import read_image
from engine.checkpoint import save_weights
from engine.command_line import main
from engine.drawing import blend, draw_legend
from engine.parts import build_task, weights_metadata
from engine.tasks.segmented import Segmented

PAGE = Path(__file__).parent.parent.parent / "docs/predict.md"
CPU = "common.device=cpu"
SIZES = {"a.jpg": (96, 64), "b.png": (60, 97), "c.png": (5, 9), "d.jpg": (300, 400)}
# Of the values 1 to 5, as the development kit of PASCAL VOC draws them.
COLOURS = [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]


def network(recipe: dict, path: Path) -> Path:
    """Weights that see many classes: of a network that has learned nothing."""
    torch.manual_seed(3)
    task = build_task(engine.load_recipe(recipe))
    task.build_source("val")
    model = task.build_model()
    torch.nn.init.normal_(model.seg_head.classifier.block.conv.weight, std=2.0)
    save_weights(path, model, weights_metadata(task))
    return path


@pytest.fixture
def simple_recipe(segmentation_recipe) -> dict:
    """The 1x1 head in place of DeepLabv3."""
    left_out = ("model.segmentation.deeplabv3", "model.segmentation.use_aux_head")
    recipe = {k: v for k, v in segmentation_recipe.items() if not k.startswith(left_out)}
    return recipe | {"model.segmentation.seg_head": "simple_seg_head"}


@pytest.fixture
def voc(simple_recipe, tmp_path) -> Path:
    """Weights for the classes of VOC."""
    return network(simple_recipe, tmp_path / "voc.pt")


@pytest.fixture(scope="session")
def ade_folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ade") / "shapes"
    generate("ade20k", root, train=2, val=3, size=64)
    return root


@pytest.fixture
def ade(simple_recipe, ade_folder, tmp_path) -> Path:
    """Weights for the 150 classes of ADE20K, whose masks have the values 1 to 150."""
    data = {"dataset.name": "ade20k", "dataset.root_val": str(ade_folder)}
    data |= {"dataset.root_train": str(ade_folder)}
    return network(simple_recipe | data, tmp_path / "ade.pt")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Images of four sizes, one of them tiny."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, (height, width) in SIZES.items():
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / name), image)
    return folder


def predict(weights: Path, *words) -> int:
    return main(["predict", str(weights), *map(str, words), CPU])


def values(path: Path) -> np.ndarray:
    """Pixels as they stand in the file."""
    with Image.open(path) as image:
        return np.array(image)


# --- cvnets predict ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools' decoder
def test_coco_results_hold_every_pixel_once(voc, photos, tmp_path):
    results = tmp_path / "r.json"
    assert predict(voc, photos, "--json", results, "--batch", 3) == 0
    rows = json.loads(results.read_text())
    predictor = engine.load(voc, [CPU])
    for number, (name, size) in enumerate(SIZES.items(), 1):
        own = [row for row in rows if row["file_name"] == name]
        assert {row["image_id"] for row in own} == {number}
        decoded = np.stack([encoder.decode(row["segmentation"]) for row in own])
        assert decoded.shape[1:] == size
        assert (decoded.sum(axis=0) == 1).all()
        ids = np.array([row["category_id"] for row in own])
        # alone it is what it was in a batch with images of other sizes
        assert np.array_equal(ids[decoded.argmax(axis=0)], predictor.predict(photos / name).mask)
        if name == "d.jpg":
            assert len(own) > 3
    truth = COCO()
    truth.dataset = {
        "images": [{"id": n} for n in range(1, 5)],
        "categories": [],
        "annotations": [],
    }
    truth.createIndex()
    areas = [each["area"] for each in truth.loadRes(rows).dataset["annotations"]]
    assert sum(areas) == sum(height * width for height, width in SIZES.values())


def test_lines_give_the_shares_of_the_classes(voc, photos, capsys):
    image = photos / "d.jpg"
    mask = engine.load(voc, [CPU]).predict(image).mask
    assert predict(voc, image) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("d.jpg: "))
    counts = sorted(((mask == value).mean(), name) for value, name in enumerate(LABELS.names))
    expected = [f"{name} {share:.1%}" for share, name in reversed(counts) if share >= 0.005]
    assert line == f"d.jpg: {', '.join(expected)}"


def test_pictures_show_the_colours_and_the_names(voc, photos, tmp_path):
    assert predict(voc, photos, "--save-images", tmp_path / "out") == 0
    for name, size in SIZES.items():
        assert values(tmp_path / "out" / name).shape == (*size, 3)
    # a PNG, and too small for names: every pixel is the mean of the image and the class's colour
    found = engine.load(voc, [CPU]).predict(photos / "c.png")
    colours = np.array([LABELS.colors[value] for value in found.classes.ravel()]).reshape(5, 9, 3)
    mean = (values(photos / "c.png").astype(int) + colours) / 2
    assert np.abs(values(tmp_path / "out/c.png") - mean).max() <= 0.5
    # the first name stands on the colour of the largest class, in the corner
    found = engine.load(voc, [CPU]).predict(photos / "d.jpg")
    largest = np.bincount(found.classes.ravel()).argmax()
    corner = values(tmp_path / "out/d.jpg")[1:5, 0].astype(int)
    assert np.abs(corner - LABELS.colors[largest]).max() < 40  # JPEG


def test_the_legend_hides_a_quarter_at_most():
    rows = [(f"class {number}", COLOURS[number % 5]) for number in range(40)]
    for height, width in ((5, 9), (40, 400), (400, 60), (96, 128), (200, 300)):
        image = np.full((height, width, 3), 7, np.uint8)
        changed = np.argwhere((draw_legend(image, rows) != 7).any(-1))
        assert (image == 7).all()
        if height < 28 or width < 120:
            assert len(changed) == 0
        else:
            assert len(changed) and changed[:, 0].max() < height / 2
            assert changed[:, 1].max() < width / 2
    ground = draw_legend(np.full((200, 300, 3), 7, np.uint8), rows[:3])
    rows_of = [int(np.flatnonzero((ground[:, 0] == colour).all(-1))[0]) for colour in COLOURS[:3]]
    assert rows_of == [0, rows_of[1], 2 * rows_of[1]]
    assert (ground[3 * rows_of[1] :] == 7).all()


def test_the_weight_is_the_share_of_the_image():
    image, colours = np.full((2, 2, 3), 200, np.uint8), np.full((2, 2, 3), 100, np.uint8)
    assert [int(blend(image, colours, share)[0, 0, 0]) for share in (0, 0.25, 1)] == [100, 125, 200]


def test_a_mask_shows_what_is_left_out():
    """VOC draws void in (224, 224, 192), and background in black."""
    drawn = Segmented(np.array([[255, 0], [1, 2]], np.uint8), LABELS).colored
    assert drawn.tolist() == [[[224, 224, 192], [0, 0, 0]], [[128, 0, 0], [0, 128, 0]]]
    own = Labels(("soil", "leaf"), (0, 1), (7,), ((1, 2, 3), (9, 8, 7)))
    drawn = Segmented(np.array([[1, 0, 255]], np.uint8), own).colored
    assert drawn.tolist() == [[[9, 8, 7], [1, 2, 3], [128, 128, 128]]]


# --- the official modes --------------------------------------------------------------------------


ALL = ("save_masks", "apply_color_map", "save_overlay_rgb_pred")
FOLDERS = {"predictions_no_cmap", "predictions_cmap", "predictions_overlay", "rgb_images"}


@pytest.fixture
def official(tmp_path):
    """Run `main_eval.py` with options of `evaluation.segmentation`; its exit code."""

    def run(weights: Path, *words, keys=ALL, **options) -> int:
        options |= dict.fromkeys(keys, "true")
        given = [f"--evaluation.segmentation.{key}={value}" for key, value in options.items()]
        places = [f"common.results_loc={tmp_path / 'results'}", "common.run_label=run"]
        return main(["eval", str(weights), *given, *places, *words])

    return run


@pytest.mark.parametrize(("kind", "shift"), [("voc", 0), ("ade", 1)])
def test_masks_have_the_values_of_the_data_set(
    kind, shift, request, official, photos, tmp_path, capsys
):
    weights, run = request.getfixturevalue(kind), tmp_path / "results/run"
    assert official(weights, mode="image_folder", path=photos) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert {Path(word).name for word in last.removeprefix("pictures: ").split(", ")} == FOLDERS
    assert {path.name for path in run.iterdir()} == FOLDERS
    predictor = engine.load(weights, [CPU])
    for name, size in SIZES.items():
        classes = predictor.predict(photos / name).classes
        with Image.open(run / f"predictions_no_cmap/{Path(name).stem}.png") as image:
            assert (image.mode, image.size) == ("L", size[::-1])
            mask = np.array(image)
        assert np.array_equal(mask, classes + shift)
        colours = values(run / f"predictions_cmap/{Path(name).stem}.png")
        for value, colour in enumerate(COLOURS, 1):
            assert (colours[mask == value] == colour).all()
    colours = values(run / "predictions_cmap/d.png")
    overlay = values(run / "predictions_overlay/d.jpg").astype(int)
    shown = values(run / "rgb_images/d.jpg").astype(int)
    assert np.abs(shown - read_image(photos / "d.jpg")).mean() < 8  # JPEG
    assert np.abs(overlay - (shown + colours) / 2).mean() < 8
    assert len(np.unique(values(run / "predictions_no_cmap/d.png"))) > 3


@pytest.mark.parametrize(("weight", "like"), [(0, "predictions_cmap/d.png"), (1, "photo")])
def test_the_overlay_weighs_the_image(weight, like, official, voc, photos, tmp_path):
    keys = ("save_overlay_rgb_pred", "apply_color_map")
    options = {"mode": "single_image", "path": photos / "d.jpg", "overlay_mask_weight": weight}
    assert official(voc, keys=keys, **options) == 0
    run = tmp_path / "results/run"
    assert not (run / "predictions_no_cmap").exists()
    expected = values(photos / "d.jpg" if like == "photo" else run / like).astype(int)
    overlay = values(run / "predictions_overlay/d.jpg")
    assert np.abs(overlay - expected).mean() < 8  # JPEG
    assert [path.name for path in (run / "predictions_cmap").iterdir()] == ["d.png"]


def test_the_command_of_the_page(voc, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results/rooms").mkdir(parents=True)
    voc.rename("results/rooms/checkpoint_best.pt")
    (line,) = re.findall(r"^cvnets-eval-seg (.*)", PAGE.read_text(), re.M)
    assert main(["eval", *shlex.split(line), CPU]) == 0
    assert len(list(tmp_path.glob("results/run/predictions_no_cmap/*.png"))) == len(SIZES)


def test_pictures_are_not_replaced(official, voc, photos, tmp_path, capsys):
    options = {"mode": "single_image", "path": photos / "d.jpg", "keys": ("save_masks",)}
    assert official(voc, **options) == 0
    before = (tmp_path / "results/run/predictions_no_cmap/d.png").read_bytes()
    assert official(voc, **options) == 2
    assert "predictions_no_cmap/d.png: is there already; remove it, or" in capsys.readouterr().err
    assert (tmp_path / "results/run/predictions_no_cmap/d.png").read_bytes() == before
    assert official(voc, **options | {"path": photos / "b.png"}) == 0


def test_without_any_picture_the_lines_are_all(official, voc, photos, tmp_path, capsys):
    assert official(voc, mode="image_folder", path=photos, keys=()) == 0
    out = capsys.readouterr().out
    assert "pictures: none; evaluation.segmentation.save_masks=true" in out
    assert "\nd.jpg: " in out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"mode": "single_image"}, "evaluation.segmentation.path: an image is expected (nothing"),
        ({"mode": "single_image", "path": "photos"}, "segmentation.path: an image is expected (ph"),
        ({"mode": "image_folder", "path": "gone"}, "path: a folder of images is expected (gone g"),
        ({"mode": "image_folder", "path": "photos/d.jpg"}, "path: a folder of images is expected"),
        ({"mode": "image_folder", "path": "empty"}, "empty: no image in it"),
        ({"mode": "single_image", "path": "notes.txt"}, "notes.txt: not an image"),
        ({"mode": "photos"}, "evaluation.segmentation.mode: "),
        ({"overlay_mask_weight": 2}, "evaluation.segmentation.overlay_mask_weight: "),
    ],
)
def test_a_mistake_is_one_line(options, line, official, voc, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no pixels")
    assert official(voc, keys=(), **options) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_what_is_asked_of_another_task_is_refused(
    voc, photos, detection_recipe, as_command, capsys
):
    words = as_command(detection_recipe)[1:]
    for key in ("mode=image_folder", "save_masks=true"):
        assert main(["eval", *words, f"evaluation.segmentation.{key}"]) == 2
        error = capsys.readouterr().err
        name = key.partition("=")[0]
        assert f"evaluation.segmentation.{name}: the network is one of detection, not of" in error
        assert error.count("\n") == 1
    path = f"evaluation.detection.path={photos}"
    assert main(["eval", str(voc), "evaluation.detection.mode=image_folder", path]) == 2
    assert (
        "evaluation.detection.mode: the network is one of segmentation" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"path": "photos"}, "evaluation.segmentation.path has no effect: mode is validation_set"),
        (
            {"overlay_mask_weight": 0.2},
            "overlay_mask_weight has no effect: no overlay is asked for",
        ),
    ],
)
def test_what_has_no_effect_is_said(options, line, official, voc, capsys):
    assert official(voc, keys=(), **options) == 0
    assert line in capsys.readouterr().out
