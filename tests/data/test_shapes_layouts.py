"""The generated data set on disk: the files of each layout, their encodings, refusals."""

import collections
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from config.errors import UserError
from data.datasets.segmentation.labels import voc_palette
from data.datasets.shapes import ADE20K_GROUND, CLASSES, COCO_IDS, LAYOUTS, generate
from data.datasets.shapes.encodings import png, polygons, run_lengths

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Root of a small set in each layout."""
    roots = {layout: tmp_path_factory.mktemp("shapes") / layout for layout in LAYOUTS}
    for layout, root in roots.items():
        generate(layout, root, train=24, val=16, size=48 if layout == "imagefolder" else 160)
    return roots


def contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_seed_gives_the_same_bytes(layout, tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        generate(layout, tmp_path / name, train=8, val=8, size=96, seed=seed)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    jpegs = [name for name in one if name.endswith(".jpg")]
    assert len(jpegs) == 16
    assert not {one[name] for name in jpegs} & set(other.values())


def test_imagefolder(written):
    for split, count in (("train", 3), ("val", 2)):
        root = written["imagefolder"] / split
        assert sorted(folder.name for folder in root.iterdir()) == list(CLASSES)
        for name in CLASSES:
            files = sorted(file.name for file in (root / name).iterdir())
            assert files == [f"{name}_{index:06d}.jpg" for index in range(count)]
            for file in files:
                height, width, channels = cv2.imread(str(root / name / file)).shape
                assert 40 <= height <= 56
                assert 40 <= width <= 56
                assert channels == 3


# pycocotools has not followed numpy 2 yet.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")
@pytest.mark.parametrize(("split", "count"), [("train", 24), ("val", 16)])
def test_coco(written, split, count):
    coco = COCO(written["coco"] / "annotations" / f"instances_{split}2017.json")
    assert tuple(coco.getCatIds()) == COCO_IDS
    assert tuple(category["name"] for category in coco.loadCats(COCO_IDS)) == CLASSES
    assert np.diff(COCO_IDS).max() > 1
    assert len(coco.imgs) == count
    for image in coco.imgs.values():
        decoded = cv2.imread(str(written["coco"] / f"{split}2017" / image["file_name"]))
        assert decoded.shape == (image["height"], image["width"], 3)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert annotation["area"] == pytest.approx(mask.sum(), rel=0.06, abs=8)
        box = cv2.boundingRect(mask)
        assert annotation["bbox"] == pytest.approx(box, abs=1)
        assert isinstance(annotation["segmentation"], dict) == bool(annotation["iscrowd"])
    objects = collections.Counter(a["image_id"] for a in coco.anns.values() if not a["iscrowd"])
    assert 3 <= min(objects.values()) <= max(objects.values()) <= 10
    assert len(objects) == count - 1
    assert sum(annotation["iscrowd"] for annotation in coco.anns.values()) == count // 8
    assert len({annotation["image_id"] for annotation in coco.anns.values()}) < count


def test_coco_splits_share_no_identifier(written):
    folder = written["coco"] / "annotations"
    train, val = (json.loads((folder / f"instances_{s}2017.json").read_text()) for s in SPLITS)
    for section in ("images", "annotations"):
        assert not {e["id"] for e in train[section]} & {e["id"] for e in val[section]}


def test_voc(written):
    root = written["voc"] / "VOC2012"
    names = {s: (root / "ImageSets/Segmentation" / f"{s}.txt").read_text().split() for s in SPLITS}
    assert [len(names[split]) for split in SPLITS] == [24, 16]
    seen = set()
    for name in names["train"] + names["val"]:
        label = Image.open(root / "SegmentationClass" / f"{name}.png")
        image = cv2.imread(str(root / "JPEGImages" / f"{name}.jpg"))
        assert label.mode == "P"
        assert label.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        assert label.getpalette()[-3:] == [224, 224, 192]
        assert label.size == image.shape[1::-1]
        values = set(np.unique(label).tolist())
        assert {0, 255} < values
        seen |= values
    assert seen == {*range(len(CLASSES) + 1), 255}


def test_ade20k(written):
    root = written["ade20k"] / "ADEChallengeData2016"
    seen = set()
    for subset, split, count in (("training", "train", 24), ("validation", "val", 16)):
        files = sorted((root / "annotations" / subset).iterdir())
        assert [f.stem for f in files] == [f"ADE_{split}_{n:08d}" for n in range(1, count + 1)]
        for file in files:
            label = Image.open(file)
            image = cv2.imread(str(root / "images" / subset / f"{file.stem}.jpg"))
            assert label.mode == "L"
            assert label.size == image.shape[1::-1]
            seen |= set(np.unique(label).tolist())
            assert np.mean(np.array(label) == 0) < 0.2  # the borders only
    assert seen == set(range(ADE20K_GROUND + 1))


# Encodings


def test_png_keeps_every_index(tmp_path):
    labels = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    for palette, mode in ((voc_palette(), "P"), (None, "L")):
        (tmp_path / "label.png").write_bytes(png(labels, palette))
        with Image.open(tmp_path / "label.png") as image:
            assert image.mode == mode
            assert np.array_equal(np.array(image), labels)


def test_run_lengths_go_down_the_columns():
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert run_lengths(mask) == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}
    assert run_lengths(np.zeros((2, 2), bool)) == {"size": [2, 2], "counts": [4]}


def test_polygons_keep_holes_open():
    mask = np.ones((20, 30), bool)
    mask[5:15, 8:22] = False
    canvas = np.zeros((200, 300), np.uint8)
    for polygon in polygons(mask):
        cv2.fillPoly(canvas, [np.rint(np.reshape(polygon, (-1, 2)) * 10).astype(int)], 1)
    filled = cv2.resize(canvas * 255, (30, 20), interpolation=cv2.INTER_AREA) > 127
    assert np.array_equal(filled, mask)


# Mistakes


def test_a_folder_with_contents_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        generate("coco", tmp_path, train=8, val=8)
    with pytest.raises(UserError, match="is a file"):
        generate("coco", tmp_path / "notes.txt", train=8, val=8)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("layout", "wrong", "message"),
    [
        ("coc", {}, "did you mean coco"),
        ("imagefolder", {"train": 7}, "train: 7 is outside 8"),
        ("voc", {"val": 0}, "val: 0 is outside 1"),
        ("voc", {"size": 20}, "size: 20 is outside 48"),
        ("voc", {"seed": -1}, "seed: -1 is outside 0"),
        ("voc", {"quality": 101}, "quality: 101 is outside 1..100"),
    ],
)
def test_wrong_arguments_are_named(layout, wrong, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        generate(layout, tmp_path / "new", **{"train": 8, "val": 8} | wrong)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        generate("imagefolder", out, train=8, val=8)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    monkeypatch.undo()
    generate("imagefolder", out, train=8, val=8)
    assert sorted(path.name for path in out.iterdir()) == ["train", "val"]
