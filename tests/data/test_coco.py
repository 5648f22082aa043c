"""COCO's layout: what is read, what is reported, what is refused."""

import json
import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import coco as pycocotools
from pydantic import ValidationError
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights

import data.datasets  # noqa: F401 - registers the data sets
from config.errors import UserError
from config.registry import compose
from data.datasets.detection.categories import COCO, Categories
from data.datasets.detection.coco import CocoDetection, DetectionDataOptions
from data.datasets.detection.objects import NO_OBJECTS, usable
from data.datasets.section import DatasetSection
from data.datasets.shapes import CLASSES, COCO_IDS, generate
from data.images import ImageError
from data.kinds import DETECTION_DATASETS

SHAPE = (40, 60)  # height, width of the images written here
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def dataset(root, split="train") -> CocoDetection:
    return CocoDetection(DetectionDataOptions(), root=str(root), split=split)


def image(number, **more) -> dict:
    height, width = SHAPE
    return {"id": number, "file_name": f"{number}.png", "height": height, "width": width, **more}


def record(number, owner, box=(10, 5, 20, 10), category=3, **more) -> dict:
    return {
        "id": number,
        "image_id": owner,
        "category_id": category,
        "bbox": list(box),
        "iscrowd": 0,
        "area": 1.0,
        **more,
    }


def write(root, images, annotations, categories=CATEGORIES, split="train", folder="{}2017"):
    """A split on disk; its images are black."""
    place = root / folder.format(split)
    place.mkdir(parents=True)
    for entry in images:
        (place / entry["file_name"]).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(place / entry["file_name"]), np.zeros((*SHAPE, 3), np.uint8))
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = root / f"annotations/instances_{split}2017.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return root


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    (line,) = error.value.lines()
    return line


# --- categories ----------------------------------------------------------------------------------


def test_the_categories_of_coco_are_those_that_torchvision_knows():
    named = SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    expected = {n: name for n, name in enumerate(named) if name not in ("__background__", "N/A")}
    assert dict(zip(COCO.ids, COCO.names, strict=True)) == expected
    assert len(COCO) == 80


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=90, unique=True))
def test_labels_count_the_sorted_ids_from_1_and_lead_back(ids):
    categories = Categories(tuple(ids), tuple(map(str, ids)))
    expected = [1 + sum(other < one for other in ids) for one in ids]
    assert categories.labels(ids).tolist() == expected
    assert categories.ids_of(expected).tolist() == ids
    assert [categories.names[label - 1] for label in expected] == list(map(str, ids))
    assert categories.labels([]).dtype == np.int64


def test_ids_and_labels_that_do_not_exist():
    pair = Categories((7, 3), ("cat", "dog"))
    assert (pair.ids, pair.names) == ((3, 7), ("dog", "cat"))
    assert refusal(pair.labels, [3, 4]) == "no category has the id 4; there are 3, 7"
    for label in (0, 3):
        assert refusal(pair.ids_of, [1, label]).startswith(f"label {label} is outside 1..2")
    assert "id 3 occurs twice" in refusal(Categories, (3, 3), ("a", "b"))


# --- against pycocotools -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco") / "shapes"
    generate("coco", root, train=32, val=16, size=96)
    return root


# pycocotools has not followed numpy 2 yet.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn:DeprecationWarning")
@pytest.mark.parametrize("split", ["train", "val"])
def test_images_and_objects_are_those_of_pycocotools(generated, split):
    peer = pycocotools.COCO(generated / f"annotations/instances_{split}2017.json")
    ours = dataset(generated, split)
    expected = [i for i in peer.getImgIds() if split == "val" or peer.getAnnIds(imgIds=[i])]
    assert ours.image_ids.tolist() == expected
    assert len(ours) == (30 if split == "train" else 16)  # two of 32 scenes are empty
    assert (ours.categories.ids, ours.categories.names) == (COCO_IDS, CLASSES)
    seen = 0
    for index, image_id in enumerate(expected):
        pixels, objects = ours.load(index)
        truth, records = objects.truth, peer.loadAnns(peer.getAnnIds(imgIds=[image_id]))
        said = peer.imgs[image_id]
        assert pixels.shape == (said["height"], said["width"], 3)
        assert ours.sizes[index].tolist() == [said["height"], said["width"]]
        assert ours.describe(index).endswith(f"{split}2017/{said['file_name']}")
        assert truth.image_id == image_id
        assert truth.boxes.tolist() == [one["bbox"] for one in records]
        assert truth.area.tolist() == [one["area"] for one in records]
        assert truth.crowd.tolist() == [bool(one["iscrowd"]) for one in records]
        assert [COCO_IDS[label - 1] for label in truth.labels] == [
            one["category_id"] for one in records
        ]
        single = [one for one in records if not one["iscrowd"]]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in single)]
        assert objects.boxes.tolist() == corners
        assert [COCO_IDS[label - 1] for label in objects.labels] == [
            one["category_id"] for one in single
        ]
        assert (objects.boxes.dtype, objects.labels.dtype) == (np.float32, np.int64)
        seen += len(single)
    assert ours.report.objects == seen
    assert ours.report.crowds.count == sum(one["iscrowd"] for one in peer.anns.values())


def test_loading_is_stateless_and_survives_pickling(generated):
    ours = dataset(generated)
    again = pickle.loads(pickle.dumps(ours))
    for index in (5, 0, 5):
        (one, objects), (other, same) = ours.load(index), again.load(index)
        assert np.array_equal(one, other)
        assert np.array_equal(objects.boxes, same.boxes)
        assert np.array_equal(objects.truth.area, same.truth.area)


# --- boxes ---------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
HEIGHT, WIDTH = SHAPE
BOXES = [  # given, usable, the report's word for it
    ((10, 5, 20, 10), (10, 5, 30, 15), None),
    ((0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT), None),
    ((-5, 5, 20, 10), (0, 5, 15, 15), "clipped"),
    ((50, 30, 20.5, 20), (50, 30, WIDTH, HEIGHT), "clipped"),
    ((-9, -9, 999, 999), (0, 0, WIDTH, HEIGHT), "clipped"),
    ((WIDTH, 5, 20, 10), None, "outside"),
    ((-30, 5, 20, 10), None, "outside"),
    ((5, 41, 20, 10), None, "outside"),
    ((5, 5, 0, 10), None, "degenerate"),
    ((5, 5, 10, 0), None, "degenerate"),
    ((30, 30, -10, 10), None, "degenerate"),
    ((30, 30, 1e-9, 10), None, "degenerate"),
    ((NAN, 5, 10, 10), None, "degenerate"),
    ((5, 5, 10, NAN), None, "degenerate"),
    ((5, 5, INF, 10), None, "degenerate"),
    ((-INF, 5, INF, 10), None, "degenerate"),
]


@pytest.mark.parametrize(("given", "expected", "finding"), BOXES)
def test_every_kind_of_box(given, expected, finding, tmp_path):
    ours = dataset(write(tmp_path, [image(1)], [record(11, 1, given)]))
    objects = ours.load(0)[1]
    assert objects.boxes.tolist() == ([] if expected is None else [list(map(float, expected))])
    assert objects.labels.tolist() == ([] if expected is None else [1])
    assert np.array_equal(objects.truth.boxes, [given], equal_nan=True)  # as it stands in the file
    for name in ("clipped", "outside", "degenerate", "crowds"):
        found = getattr(ours.report, name)
        assert found.count == len(found.examples) == (name == finding), name
    assert ours.report.objects == (expected is not None)
    assert ours.report.without_objects == (expected is None)


def test_a_report_counts_and_gives_three_examples(tmp_path):
    images = [image(number) for number in (5, 2, 9, 4)]
    annotations = [record(number, 2, (-1.5, 0, 9, 9)) for number in range(20, 25)]
    annotations += [record(30, 9, iscrowd=1, category=7), record(31, 5, (1, 1, 0, 3))]
    annotations += [record(32, 5, (99, 0, 1, 1)), record(33, 5)]
    ours = dataset(write(tmp_path, images, annotations))
    assert ours.image_ids.tolist() == [5, 2, 9]  # as in the file, 4 has no record
    assert ours.report.lines() == [
        "3 images with 6 objects",
        "1 image without an object",
        "1 image left out: no annotation record",
        "5 boxes reach outside of their image and are clipped, e.g. annotation 20 of 2.png "
        "[-1.5, 0, 9, 9], annotation 21 of 2.png [-1.5, 0, 9, 9], annotation 22 of 2.png "
        "[-1.5, 0, 9, 9]",
        "1 box lies outside of its image and is dropped, e.g. annotation 32 of 5.png [99, 0, 1, 1]",
        "1 box has no width or height and is dropped, e.g. annotation 31 of 5.png [1, 1, 0, 3]",
        "1 box of a crowd is ignored in training and evaluation, e.g. annotation 30 of 9.png [10, 5, 20, 10]",
    ]
    objects = ours.load(2)[1]
    assert (len(objects.boxes), objects.truth.crowd.tolist()) == (0, [True])
    assert objects.truth.labels.tolist() == [2]
    val = dataset(write(tmp_path / "val", images, annotations, split="val"), "val")
    assert val.image_ids.tolist() == [5, 2, 9, 4]
    assert val.report.lines()[:2] == ["4 images with 6 objects", "2 images without an object"]
    assert len(val.load(3)[1].truth.boxes) == 0
    known = val.objects(0, 3, 9)  # of the image in another size, which is not read
    assert known.boxes.tolist() == []
    assert val.objects(0, 8, 25).boxes.tolist() == [[10, 5, 25, 8]]


@given(
    st.lists(
        st.tuples(*[st.floats(-80, 80, width=32)] * 2, *[st.floats(-3, 90, width=32)] * 2),
        max_size=20,
    )
)
def test_usable_boxes_are_valid_and_no_object_is_lost(given):
    boxes = np.array(given, np.float64).reshape(-1, 4)
    corners, good = usable(boxes, HEIGHT, WIDTH)
    x1, y1, x2, y2 = corners[good].T
    assert corners.dtype == np.float32
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= WIDTH) & (y1 >= 0) & (y1 < y2) & (y2 <= HEIGHT)).all()
    for (x, y, w, h), kept in zip(given, good, strict=True):
        overlap = min(x + w, WIDTH) - max(x, 0), min(y + h, HEIGHT) - max(y, 0)
        if w > 1e-3 and h > 1e-3 and min(overlap) > 1e-3:
            assert kept
        if w <= 0 or h <= 0 or min(overlap) < 0:
            assert not kept


# --- files that differ from the official ones ------------------------------------------------------


def test_only_ids_names_and_boxes_are_needed(tmp_path):
    images = [{"id": 0, "file_name": "0.png"}, {"id": 1, "file_name": "1.png", "width": None}]
    annotations = [
        {"image_id": 1, "category_id": 3, "bbox": [50, 5, 20, 10]},
        {"image_id": 0, "category_id": 7, "bbox": [1, 2.5, 3, 4], "area": None, "iscrowd": None},
        {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": True},
    ]
    ours = dataset(write(tmp_path, images, annotations))
    assert ours.sizes.tolist() == [[0, 0], [0, 0]]
    first, second = ours.load(0)[1], ours.load(1)[1]
    assert (first.truth.area.tolist(), first.truth.crowd.tolist()) == ([12.0], [False])
    assert (second.truth.area.tolist(), second.truth.crowd.tolist()) == (
        [200.0, 5.0],
        [False, True],
    )
    assert second.boxes.tolist() == [[50, 5, WIDTH, 15]]  # clipped when the size is known
    assert (ours.report.objects, ours.report.clipped.count, ours.report.outside.count) == (2, 0, 0)
    assert ours.report.crowds.examples[0].annotation == 3  # counted in the file


def test_a_byte_order_mark_and_segmentations_do_no_harm(tmp_path):
    crowd = record(1, 1, segmentation={"size": [2, 2], "counts": [1, 3]}, iscrowd=1)
    root = write(tmp_path, [image(1)], [crowd, record(2, 1, segmentation=[[1, 2, 3, 4, 5, 6]])])
    file = root / "annotations/instances_train2017.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert dataset(root).report.objects == 1


FOLDERS = ["images/{}2017", "{}2017", "images/{}", "{}"]


@pytest.mark.parametrize("first", range(4))
def test_images_are_looked_for_in_a_fixed_order(first, tmp_path):
    for folder in FOLDERS[first + 1 :]:
        (tmp_path / folder.format("val")).mkdir(parents=True)
    write(tmp_path, [image(1)], [], split="val", folder=FOLDERS[first])
    expected = tmp_path / FOLDERS[first].format("val") / "1.png"
    assert dataset(tmp_path, "val").describe(0) == str(expected)


def test_annotations_without_the_year_come_second(tmp_path):
    write(tmp_path, [image(1)], [])
    names = [tmp_path / f"annotations/instances_train{year}.json" for year in ("2017", "")]
    content = json.loads(names[0].read_text())
    names[1].write_text(json.dumps(content | {"annotations": [record(1, 1)]}))
    assert "no image with an annotation" in refusal(dataset, tmp_path)
    names[0].unlink()
    assert dataset(tmp_path).report.objects == 1


def test_a_test_split_is_called_test_or_val(tmp_path):
    write(tmp_path, [image(1)], [record(1, 1)], split="val")
    assert dataset(tmp_path, "test").image_ids.tolist() == [1]
    write(tmp_path, [image(2)], [record(1, 2)], split="test", folder="images/{}")
    assert dataset(tmp_path, "test").image_ids.tolist() == [2]
    assert dataset(tmp_path, "val").image_ids.tolist() == [1]


def test_images_may_lie_in_sub_folders(tmp_path):
    ours = dataset(write(tmp_path, [image(1, file_name="a/1.png")], [record(1, 1)]))
    assert ours.load(0)[0].shape == (*SHAPE, 3)


def test_what_was_looked_for_is_said(tmp_path):
    key = "dataset.root_val"
    assert refusal(dataset, "", "val").startswith(f"{key}: no folder is given; set {key}=FOLDER")
    assert refusal(dataset, tmp_path / "no", "val").startswith(f"{key}: no folder {tmp_path}/no;")
    files = [f"{tmp_path}/annotations/instances_val{year}.json" for year in ("2017", "")]
    assert refusal(dataset, tmp_path, "val") == (
        f"{key}: no annotation file; looked for {', '.join(files)}"
    )
    write(tmp_path, [], [], split="val")
    assert refusal(dataset, tmp_path, "val") == f"{key}: {files[0]} has no image"
    (tmp_path / "val2017").rmdir()
    folders = ", ".join(f"{tmp_path}/{folder.format('val')}" for folder in FOLDERS)
    assert refusal(dataset, tmp_path, "val") == f"{key}: no folder of images; looked for {folders}"


# --- mistakes ------------------------------------------------------------------------------------


def changed(section, place, **values):
    """The content of a small file with other values; None removes a key."""
    content = {
        "images": [image(1), image(2)],
        "annotations": [record(1, 1), record(2, 2)],
        "categories": [dict(entry) for entry in CATEGORIES],
    }
    for key, value in values.items():
        if value is None:
            del content[section][place][key]
        else:
            content[section][place][key] = value
    return json.dumps(content)


NUMBERS = "a list of 4 numbers (x, y, width, height) is expected"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ":1:1: not JSON (Expecting value); is the file complete?"),
        ('{"images": [\n  {"id": 1,', ":2:12: not JSON (Expecting property name enclosed in dou"),
        ("[]", ": no list 'images'; a file of COCO's instances format is expected, with images, "),
        ('{"images": 5}', ": no list 'images'; "),
        ('{"images": [], "categories": []}', ": no list 'annotations'; "),
        (
            '{"images": [], "annotations": [], "categories": []}',
            ": 'categories' is empty; name the classes there",
        ),
        (
            '{"images": [], "annotations": [[1]], "categories": []}',
            ": annotations[0]: a mapping is expected ([1] given)",
        ),
        (
            changed("images", 1, id=1),
            ": images[1].id: 1 is already the id of images[0]; give every entry its own",
        ),
        (changed("images", 1, id="2"), ': images[1].id: a whole number is expected ("2" given)'),
        (changed("images", 0, id=True), ": images[0].id: a whole number is expected (true given)"),
        (changed("images", 0, id=2**70), ": images[0].id: a whole number is expected (11805"),
        (changed("images", 1, id=None), ": images[1].id: a whole number is expected (it is miss"),
        (changed("images", 1, file_name=None), ": images[1].file_name: a text is expected (it is"),
        (changed("images", 0, width=-5), ": images[0].width: a size in pixels is expected (-5 giv"),
        (changed("images", 0, height=4.5), ": images[0].height: a size in pixels is expected (4.5"),
        (changed("annotations", 1, bbox=None), f": annotations[1].bbox: {NUMBERS} (it is missing)"),
        (changed("annotations", 1, bbox=[]), f": annotations[1].bbox: {NUMBERS} ([] given)"),
        (changed("annotations", 0, bbox=[1, 2, 3, "4"]), f": annotations[0].bbox: {NUMBERS} ([1, "),
        (changed("annotations", 1, iscrowd=2), ": annotations[1].iscrowd: 0 or 1 is expected (2 "),
        (changed("annotations", 1, area="big"), ': annotations[1].area: a number is expected ("b'),
        (changed("annotations", 1, id=1), ": annotations[1].id: 1 is already the id of annotation"),
        (
            changed("annotations", 1, image_id=5),
            ": annotations[1].image_id: no image has the id 5 (1 such annotations); remove them or",
        ),
        (
            changed("annotations", 0, category_id=4),
            ": annotations[0].category_id: no category has the id 4 (1 such annotations); remove",
        ),
        (changed("categories", 1, id=7), ": categories[1].id: 7 is already the id of categories["),
        (changed("categories", 0, name=None), ": categories[0].name: a text is expected (it is"),
    ],
)
def test_files_that_are_wrong(text, line, tmp_path):
    root = write(tmp_path, [image(1), image(2)], [])
    file = root / "annotations/instances_train2017.json"
    file.write_text(text)
    assert refusal(dataset, root)[: len(str(file)) + len(line)] == f"{file}{line}"


def test_a_file_that_is_not_text(tmp_path):
    root = write(tmp_path, [image(1)], [])
    file = root / "annotations/instances_train2017.json"
    file.write_bytes(b'{"images": "\xff"}')
    assert refusal(dataset, root) == f"{file}: not a text in UTF-8 (byte 12)"


def test_images_without_a_file_are_counted_before_training(tmp_path):
    annotations = [record(number, number) for number in (1, 2, 4)]
    root = write(tmp_path, [image(number) for number in range(1, 6)], annotations)
    for number in (2, 3, 4):
        (root / f"train2017/{number}.png").unlink()
    file = root / "annotations/instances_train2017.json"
    assert refusal(dataset, root) == (  # 3 has no annotation: it would not be used
        f"dataset.root_train: {file} has 3 images, of which 2 are not in {root}/train2017, first "
        "2.png; add them, or remove them from the file"
    )


@pytest.mark.parametrize(
    ("said", "hint"), [({"width": 30}, ""), ({"height": 60, "width": 40}, " (turned: its ")]
)
def test_an_image_of_another_size_than_recorded_is_an_error(said, hint, tmp_path):
    ours = dataset(write(tmp_path, [image(1, **said)], [record(1, 1)]))
    with pytest.raises(ImageError) as error:
        ours.load(0)
    height, width = said.get("height", 40), said["width"]
    assert str(error.value).startswith(
        f"{tmp_path}/train2017/1.png: the image has 40 x 60 pixels (height x width), but {height} x "
        f"{width} according to {tmp_path}/annotations/instances_train2017.json{hint}"
    )


def test_a_damaged_image_is_named_when_it_is_loaded(tmp_path):
    ours = dataset(write(tmp_path, [image(1)], [record(1, 1)]))
    (tmp_path / "train2017/1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=re.escape("1.png: ")):
        ours.load(0)


# --- in a recipe ---------------------------------------------------------------------------------


def test_both_names_share_the_section_and_labels_start_at_1():
    section = compose(DatasetSection, DETECTION_DATASETS)
    assert section(name="coco").detection == section(name="coco_ssd").detection
    assert DETECTION_DATASETS["coco"].component is DETECTION_DATASETS["coco_ssd"].component
    with pytest.raises(ValidationError, match="no_background_id: SSD tells objects from the backg"):
        section(detection={"no_background_id": True})


def test_an_image_without_known_objects():
    assert NO_OBJECTS.boxes.shape == NO_OBJECTS.truth.boxes.shape == (0, 4)
    assert torch.from_numpy(NO_OBJECTS.labels).dtype == torch.int64
