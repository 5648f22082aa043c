"""`cvnets check RECIPE`: sound data pass, and each broken annotation file is named."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import engine
from engine.checks.anchors import best_overlaps, training_sizes
from engine.checks.annotations import Records, classes, collect
from engine.checks.detection import samples
from engine.checks.ground_truth import ground_truth_as_predictions
from engine.checks.splits import check
from engine.command_line import main
from engine.parts import build_task

TITLES = [
    "Data",
    "Boxes",
    "Classes",
    "Ground truth as predictions: val",
    "Anchors",
    "Samples",
]
SIDES = {"small": (0, 32), "medium": (32, 96), "large": (96, 10**6)}


@pytest.fixture
def load(detection_recipe):
    """The recipe as it is used in Python, with changes."""

    def run(**changes) -> engine.recipe.Recipe:
        given = {**detection_recipe, **changes}
        ratios = "anchor_generator.ssd.aspect_ratios"
        return engine.load_recipe({**given, ratios: json.loads(given[ratios])})

    return run


@pytest.fixture(autouse=True)
def drawing(request, monkeypatch):
    """Drawing takes a second: only for tests that look at the picture."""
    if "drawn" not in request.fixturenames:
        name = "engine.checks.detection.draw_examples"
        monkeypatch.setattr(name, lambda examples, path, **_: path.write_bytes(b"drawn"))


@pytest.fixture
def drawn(tmp_path) -> Path:
    """The picture, for tests that look at it."""
    return tmp_path / "results/run/check/samples.png"


@pytest.fixture
def doctor(detection_recipe, as_command, tmp_path, capsys):
    """Run `cvnets check`; gives the exit code, the lines of problems, and check.json by title."""

    def run(*words: str, **changes) -> tuple[int, list[str], dict]:
        code = main(["check", *as_command(detection_recipe, **changes)[1:], *words])
        problems = capsys.readouterr().err.splitlines()
        record = json.loads((tmp_path / "results/run/check/check.json").read_text())
        assert record["ok"] == (code == 0)
        return code, problems, {finding["title"]: finding for finding in record["findings"]}

    return run


@pytest.fixture
def broken(coco_folder, tmp_path):
    """A copy of the data set with one changed annotation file; gives the words that point to it."""

    def run(change: Callable[[dict], object], split: str = "val") -> dict[str, str]:
        root = shutil.copytree(coco_folder, tmp_path / "coco")
        path = root / f"annotations/instances_{split}2017.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return {"dataset.root_train": str(root), "dataset.root_val": str(root)}

    return run


def annotations(root: Path, split: str) -> dict:
    return json.loads((root / f"annotations/instances_{split}2017.json").read_text())


# --- a sound data set ----------------------------------------------------------------------------


def test_a_sound_data_set_passes(doctor, drawn):
    code, problems, findings = doctor()
    assert (code, problems) == (0, [])
    assert list(findings) == TITLES
    assert findings["Ground truth as predictions: val"]["figures"]["ap"] == pytest.approx(100)
    picture = cv2.imread(str(drawn))
    assert min(picture.shape[:2]) > 4 * 300  # 4 x 4 images


@pytest.mark.parametrize("split", ["train", "val"])
def test_classes_are_counted_as_they_stand_in_the_file(split, doctor, broken):
    def change(content):
        for annotation in content["annotations"]:  # an image with nothing but crowds
            annotation["iscrowd"] |= int(annotation["image_id"] == content["images"][0]["id"])

    words = broken(change, split)
    content = annotations(Path(words["dataset.root_val"]), split)
    names = {category["id"]: category["name"] for category in content["categories"]}
    single = [a for a in content["annotations"] if not a["iscrowd"]]
    objects = Counter(names[a["category_id"]] for a in single)
    images = Counter(name for _, name in {(a["image_id"], names[a["category_id"]]) for a in single})
    annotated = {a["image_id"] for a in content["annotations"]}
    used = annotated if split == "train" else {image["id"] for image in content["images"]}
    figures = doctor(**words)[2]["Classes"]["figures"][split]
    assert figures["crowds"] == len(content["annotations"]) - len(single) > 0
    assert figures["empty_images"] == len(used - {a["image_id"] for a in single})
    assert figures["classes"] == {
        name: {"objects": objects[name], "images": images[name]} for name in names.values()
    }


@pytest.mark.parametrize(
    ("sampler", "sizes"),
    [
        ({}, [(64, 64), (96, 96), (128, 128)]),
        (  # sides that no stride divides
            {
                "sampler.name": "batch_sampler",
                "sampler.bs.crop_size_height": 100,
                "sampler.bs.crop_size_width": 76,
                "matcher.ssd.iou_threshold": 0.4,
            },
            [(100, 76)],
        ),
    ],
)
def test_recall_of_the_anchors_is_that_of_a_plain_loop(sampler, sizes, doctor, load, coco_folder):
    """The anchors come from the network; boxes and sizes of images from the file."""
    content = annotations(coco_folder, "train")
    images = {image["id"]: image for image in content["images"]}
    threshold = sampler.get("matcher.ssd.iou_threshold", 0.45)
    figures = doctor(**sampler)[2]["Anchors"]["figures"]
    model = engine.build_model(load(**sampler, **{"model.detection.n_classes": 9})).eval()
    assert list(figures["sizes"]) == [f"{height}x{width}" for height, width in sizes]
    for height, width in sizes:
        with torch.no_grad():
            cx, cy, w, h = model(torch.zeros(1, 3, height, width)).anchors.unbind(1)
        anchors = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        found: dict[str, list[float]] = {"all": []}
        for annotation in content["annotations"]:
            if annotation["iscrowd"]:
                continue
            x, y, w, h = annotation["bbox"]
            whole = images[annotation["image_id"]]
            box = torch.tensor([[x, y, x + w, y + h]]) / torch.tensor(
                [whole["width"], whole["height"]] * 2
            )
            best = float(box_iou(box, anchors).max())
            found["all"].append(best)
            pixels = whole["height"] * whole["width"]
            for name, (low, high) in SIDES.items():
                for where, area in (
                    ("original", w * h),
                    ("input", w * h * height * width / pixels),
                ):
                    part = found.setdefault(f"{name}, {where}", [])
                    part += [best] if low**2 <= area < high**2 else []
        assert len(found["all"]) > 40
        assert min(found["all"]) < threshold < max(found["all"])
        shown = figures["sizes"][f"{height}x{width}"]
        assert shown["anchors"] == len(anchors)
        assert set(shown["recall"]) == set(found)
        for name, overlaps in found.items():
            expected = shown["recall"][name]
            assert expected["objects"] == len(overlaps), name
            if overlaps:
                matched = float(np.mean(np.array(overlaps) >= threshold))
                assert expected["matched"] == pytest.approx(matched)
                assert expected["forced"] == pytest.approx(1 - matched)
                assert expected["half"] == pytest.approx(np.mean(np.array(overlaps) >= 0.5))
                assert expected["mean"] == pytest.approx(np.mean(overlaps), rel=1e-5)
            else:
                assert expected["mean"] is None


def test_overlaps_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    boxes, anchors = (torch.rand(n, 4, generator=generator) for n in (70, 33))
    boxes[:, 2:] += boxes[:, :2]
    corners = torch.cat(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1
    )
    expected = box_iou(boxes, corners).amax(1)
    for elements in (1, 33 * 8, 10**6):
        monkeypatch.setattr("engine.checks.anchors.ELEMENTS", elements)
        assert torch.equal(best_overlaps(boxes, anchors), expected)


def test_of_many_objects_some_are_drawn(doctor, monkeypatch):
    everything = doctor()[2]["Anchors"]["figures"]
    monkeypatch.setattr("engine.checks.anchors.MOST", 20)
    first, second = (doctor()[2]["Anchors"] for _ in range(2))
    assert first == second
    assert first["figures"]["objects"] == 20
    of_all = everything["objects"]
    assert first["lines"][0] == f"training objects: 20 of {of_all}, drawn at random with seed 0"
    parts = first["figures"]["sizes"]["96x96"]["recall"]
    assert parts["all"]["objects"] == 20
    assert sum(parts[f"{name}, input"]["objects"] for name in SIDES) == 20


def test_of_many_classes_the_most_frequent_and_the_rarest_are_listed():
    """Class c of 40 has c + 1 objects, all in image 0 but for one in image 1."""
    labels = np.repeat(np.arange(40), np.arange(40) + 1) + 1
    places = np.zeros(len(labels), np.int64)
    places[np.cumsum(np.arange(40) + 1)[1:] - 1] = 1
    nothing = np.zeros(0, np.int64)
    records = Records(
        sizes=np.full((2, 2), 50),
        owners=nothing,
        boxes=np.zeros((0, 4)),
        crowd=nothing.astype(bool),
        places=places,
        corners=np.zeros((len(labels), 4), np.float32),
        labels=labels,
    )
    finding = classes({"train": records}, [f"c{number}" for number in range(40)])
    rows = [line.split() for line in finding.lines[2:]]
    assert rows[:12] == [[f"c{c}", f"{c + 1}", "2"] for c in range(39, 27, -1)]
    assert rows[12] == ["...", "16", "classes", "between", "them,", "see", "check.json"]
    assert rows[13:] == [[f"c{c}", f"{c + 1}", "2" if c else "1"] for c in range(11, -1, -1)]


def test_all_sizes_of_a_growing_sampler_are_looked_at(load):
    growing = {
        "sampler.vbs.scale_inc": True,
        "sampler.vbs.ep_intervals": [1],
        "sampler.vbs.max_scale_inc_factor": 1.5,
    }
    assert training_sizes(load()) == [(64, 64), (96, 96), (128, 128)]
    assert training_sizes(load(**growing)) == [(64, 64), (96, 96), (128, 128), (192, 192)]


def test_samples_are_the_first_images_of_training(load, tmp_path, monkeypatch):
    """With their boxes on the painted forms; the same again, and others with another seed."""
    shown = []
    name = "engine.checks.detection.draw_examples"
    monkeypatch.setattr(name, lambda examples, path, **_: shown.append(examples))
    for changes in ({}, {}, {"common.seed": 1}):
        task = build_task(load(**changes))
        samples(task, task.build_source("train"), tmp_path / "samples.png")
    assert [len(examples) for examples in shown] == [16, 16, 16]
    one, again, other = ([example.image.tobytes() for example in drawn] for drawn in shown)
    assert one == again
    assert one != other
    sizes = {example.image.shape[:2] for example in shown[0]}
    assert sizes <= {(64, 64), (96, 96), (128, 128)}
    assert len(sizes) > 1
    assert all(f"{e.image.shape[0]}x{e.image.shape[1]}, " in e.title for e in shown[0])


def test_samples_show_where_the_objects_are(load, coco_folder, tmp_path, monkeypatch):
    """Without augmentation: the boxes of the file, in pixels of an image that is not square."""
    off = {f"image_augmentation.{n}.enable": False for n in ("ssd_crop", "random_horizontal_flip")}
    size = {"sampler.bs.crop_size_height": 64, "sampler.bs.crop_size_width": 128}
    task = build_task(load(**off, **size, **{"sampler.name": "batch_sampler"}))
    seen, shown = [], []
    monkeypatch.setattr(
        "engine.checks.detection.draw_boxes", lambda image, *rest: seen.append(rest) or image
    )
    monkeypatch.setattr(
        "engine.checks.detection.draw_examples", lambda examples, path, **_: shown.extend(examples)
    )
    samples(task, task.build_source("train"), tmp_path / "samples.png")
    content = annotations(coco_folder, "train")
    names = {category["id"]: category["name"] for category in content["categories"]}
    for example, (corners, labels, scores) in zip(shown, seen, strict=True):
        image = next(i for i in content["images"] if example.title.startswith(i["file_name"]))
        scale = np.array([128 / image["width"], 64 / image["height"]] * 2)
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        own = [a for a in own if not a["iscrowd"]]
        expected = [np.array(as_corners(a["bbox"], image)) * scale for a in own]
        np.testing.assert_allclose(corners.reshape(-1), np.ravel(expected), atol=1e-3)
        assert labels == [names[a["category_id"]] for a in own]
        assert scores is None
        assert example.image.shape == (64, 128, 3)


# --- nothing is decoded that need not be ---------------------------------------------------------


@pytest.mark.parametrize("recorded", [True, False])
def test_images_of_validation_are_not_decoded(recorded, doctor, broken):
    def change(content):
        for image in [] if recorded else content["images"]:
            del image["height"], image["width"]

    expected = doctor()[2]
    words = broken(change)
    for path in (Path(words["dataset.root_val"]) / "val2017").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-100])  # its head is whole
    code, problems, findings = doctor(**words)
    assert (code, problems) == (0, [])
    for title in TITLES[1:5]:
        assert findings[title] == expected[title]


class Plain:
    """A data set of one's own: what `CocoDetection` has besides `load` is not there."""

    def __init__(self, dataset):
        self._dataset = dataset

    def __len__(self):
        return len(self._dataset)

    def load(self, index):
        return self._dataset.load(index)


def test_a_data_set_of_ones_own_needs_only_what_training_needs(load):
    dataset = build_task(load()).build_source("train").dataset
    mine, theirs = collect(Plain(dataset)), collect(dataset)
    for name, column in vars(theirs).items():
        np.testing.assert_array_equal(getattr(mine, name), column)


# --- broken annotation files ---------------------------------------------------------------------


def rewrite(convert: Callable[[list[float], dict], list[float]]) -> Callable[[dict], None]:
    """Write all boxes in another format; `convert` gets the box and the record of its image."""

    def change(content: dict) -> None:
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            box = annotation["bbox"]
            annotation["bbox"] = convert(box, images[annotation["image_id"]])

    return change


def as_corners(box, image):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def as_centres(box, image):
    x, y, w, h = box
    return [x + w / 2, y + h / 2, w, h]


def as_shares(box, image):
    width, height = image["width"], image["height"]
    return [n / side for n, side in zip(box, (width, height, width, height), strict=True)]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (as_corners, "fit as (x1, y1, x2, y2), so they seem to be that; convert them"),
        (
            as_centres,
            "fit as (centre x, centre y, width, height), so they seem to be that; convert them",
        ),
        (
            as_shares,
            "no number of any box is above 1, so they seem to be shares of the image; COCO's boxes "
            "are pixels: multiply them by width and height",
        ),
    ],
)
def test_another_format_of_boxes_is_recognised(convert, text, split, doctor, broken):
    code, problems, findings = doctor(**broken(rewrite(convert), split))
    assert code == 2
    assert [p for p in problems if p.startswith(f"dataset.root_{split}: ") and p.endswith(text)]
    assert findings["Boxes"]["problems"] == [p for p in problems if p.endswith(text)]
    if split == "val" and convert is not as_shares:  # which are too small, but in the image
        assert findings["Ground truth as predictions: val"]["figures"]["ap"] < 90
        assert "boxes reach outside of their images" in "".join(problems)


def test_boxes_outside_of_the_image_are_of_no_known_format(doctor, broken):
    """Read as corners their height is negative, read as centres they begin left of the image."""

    def shift(box, image):
        width, height = image["width"], image["height"]
        return [0.2 * width, 0.6 * height, 0.5 * width, 0.5 * height]

    code, _, findings = doctor(**broken(rewrite(shift)))
    assert code == 2
    assert findings["Boxes"]["ok"]
    assert findings["Boxes"]["figures"]["val"]["inside"] == 0


def test_degenerate_boxes_of_validation_can_never_be_found(doctor, broken):
    named = []

    def change(content):
        for annotation in [a for a in content["annotations"] if not a["iscrowd"]][:5:2]:
            annotation["bbox"][2 + len(named) % 2] = 0
            named.append(annotation)

    code, problems, findings = doctor(**broken(change))
    assert code == 2
    assert len(problems) == 1
    start, _, reason = problems[0].partition(" instead of 100: ")
    ap = findings["Ground truth as predictions: val"]["figures"]["ap"]
    assert start == f"dataset.root_val: ground truth as predictions has AP {ap:.2f}"
    assert 90 < ap < 100
    examples = ", ".join(
        f"{a['image_id']:012}.jpg [{', '.join(f'{n:g}' for n in a['bbox'])}]" for a in named
    )
    assert reason == (
        f"boxes without width or height match nothing; repair or remove them (3, e.g. {examples})"
    )


def test_degenerate_boxes_of_training_do_no_harm(doctor, broken):
    def change(content):
        for annotation in [a for a in content["annotations"] if not a["iscrowd"]][:3]:
            annotation["bbox"][2] = 0

    code, _, findings = doctor(**broken(change, "train"))
    assert code == 0
    assert any("train: 3 boxes have no width or height" in x for x in findings["Data"]["lines"])


def test_boxes_outside_of_the_image_are_named(doctor, broken):
    def change(content):
        first, second, third = [a for a in content["annotations"] if not a["iscrowd"]][:3]
        first["bbox"][0] += 2000  # wholly
        second["bbox"][2] += 200  # partly
        third["bbox"][0] += 0.2  # not worth mentioning

    code, problems, _ = doctor(**broken(change))
    assert code == 2
    assert len(problems) == 1
    assert (
        "instead of 100: boxes reach outside of their images, where nothing can be" in problems[0]
    )
    assert "(2, e.g. 000000000002.jpg [2" in problems[0]


def test_more_objects_of_a_class_than_the_evaluation_counts(doctor, broken):
    def crowded(count: int) -> Callable[[dict], None]:
        def change(content):
            image = content["images"][0]["id"]
            kept = [a for a in content["annotations"] if a["image_id"] != image]
            for n in range(count):
                box = [float(4 * (n % 12)), float(4 * (n // 12)), 4.0, 4.0]
                record = {"id": 10**7 + n, "image_id": image, "category_id": 1, "bbox": box}
                kept.append(record | {"area": 16.0, "iscrowd": 0})
            content["annotations"] = kept

        return change

    def crowded_and_degenerate(content):
        crowded(100)(content)
        content["annotations"][0]["bbox"][2] = 0

    words = broken(crowded_and_degenerate)
    problems = doctor(**words)[1]
    assert len(problems) == 1
    assert "instead of 100: boxes without width or height" in problems[0]
    shutil.rmtree(words["dataset.root_val"])
    code, problems, _ = doctor(**broken(crowded(101)))
    assert code == 2
    assert len(problems) == 1
    assert problems[0].endswith(
        "instead of 100: some images have more than the 100 objects of a class that the official "
        "evaluation counts (1, e.g. 000000000002.jpg with 101)"
    )


def test_category_ids_that_are_off_by_one_in_one_split(doctor, broken):
    def shift_both(content):
        for category in content["categories"]:
            category["id"] += 1
        for annotation in content["annotations"]:
            annotation["category_id"] += 1

    words = broken(shift_both)
    code, problems, findings = doctor(**words)
    assert code == 2
    assert len(problems) == 1
    assert "dataset.root_val: its categories differ from those of the other split" in problems[0]
    assert list(findings) == ["Data", "Boxes", "Classes", "Anchors", "Samples"]  # of training
    shutil.rmtree(words["dataset.root_val"])

    def shift_annotations(content):
        for annotation in content["annotations"]:
            annotation["category_id"] += 1

    code, problems, _ = doctor(**broken(shift_annotations))
    assert code == 2
    assert "no category has the id" in problems[0]


def test_classes_without_an_object_are_named(doctor, broken):
    def without(content):
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 7]

    words = broken(without)  # 7 is the disc's
    code, _, findings = doctor(**words)
    assert code == 0
    assert "val: no object of disc" in findings["Classes"]["lines"]
    root = Path(words["dataset.root_val"])
    train = annotations(root, "train")
    without(train)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(train))
    assert doctor(**words)[0] == 0  # a class that nobody uses is no mistake
    shutil.rmtree(words["dataset.root_val"])
    code, problems, _ = doctor(**broken(without, "train"))
    assert code == 2
    assert problems == [
        "dataset.root_train: no object of disc to learn from, but validation has some; add "
        "images of them, or compare the category ids of the two annotation files"
    ]


def test_a_split_without_objects(doctor, broken):
    def only_crowds(content):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1

    code, problems, _ = doctor(**broken(only_crowds))
    assert code == 2
    assert problems == ["dataset.root_val: no object in any image, so there is no AP"]


def test_an_unreadable_training_image_is_named(doctor, broken):
    words = broken(lambda content: None)
    paths = sorted((Path(words["dataset.root_train"]) / "train2017").glob("*.jpg"))
    for path in paths[:12]:
        path.write_bytes(b"")
    code, problems, _ = doctor(**words)
    assert code == 2
    assert all("the file is empty" in problem for problem in problems)
    assert {problem.partition(":")[0] for problem in problems} <= set(map(str, paths[:12]))


# --- a broken evaluation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one._replace(labels=one.labels % 8 + 1),
        lambda one: one._replace(
            boxes=np.c_[one.boxes[:, :2], one.boxes[:, :2] + one.boxes[:, 2:]]
        ),
        lambda one: one._replace(boxes=one.boxes[:, [1, 0, 3, 2]]),
        lambda one: one._replace(boxes=one.boxes / 96),
        lambda one: one._replace(boxes=one.boxes + 3),
    ],
    ids=["labels", "corners", "y before x", "shares", "shifted"],
)
def test_a_fault_on_the_way_of_the_evaluation_shows(change, load, monkeypatch):
    task = build_task(load())
    source = task.build_source("val")
    assert ground_truth_as_predictions(task, source, "val").ok
    sound = task.postprocess
    monkeypatch.setattr(task, "postprocess", lambda *a: [change(one) for one in sound(*a)])
    finding = ground_truth_as_predictions(task, source, "val")
    assert finding.figures["ap"] < 90
    assert len(finding.problems) == 1
    assert "objects are evaluated with another box or class than they are" in finding.problems[0]


# --- advice --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "anchors", "text"),
    [
        ((0.4, 0.4, 0.04, 0.04), {}, "100% are too small for the smallest anchors: lower anchor_generator.ssd"
         ".min_scale_ratio, e.g. to 0.04, the median side of these objects"),
        ((0.02, 0.02, 0.95, 0.8), {"max_scale_ratio": 0.3}, "100% are too large for the largest anchors: "
         "raise anchor_generator.ssd.max_scale_ratio"),
        ((0.02, 0.5, 0.95, 0.06), {}, "100% are too long or too high for all anchors: add a ratio to "
         "anchor_generator.ssd.aspect_ratios, e.g. 6"),
    ],
)  # fmt: skip
def test_anchors_that_fit_badly_come_with_advice(box, anchors, text, doctor, broken):
    def in_shares(_, image):
        sides = (image["width"], image["height"]) * 2
        return [share * side for share, side in zip(box, sides, strict=True)]

    words = broken(rewrite(in_shares), "train")
    words |= {f"anchor_generator.ssd.{key}": value for key, value in anchors.items()}
    code, _, findings = doctor(**words)
    assert code == 0
    assert findings["Anchors"]["figures"]["advice"] == [
        "100% of the objects are matched by force only; of these",
        f"  {text}",
    ]


@pytest.mark.parametrize("every", [3, 6])
def test_there_is_advice_where_more_than_a_fifth_fits_badly(every, doctor, broken):
    """Some are tiny, the others have the form of an anchor in the middle of the image."""
    numbers = []

    def change(box, image):
        numbers.append(len(numbers))
        side = 0.04 if len(numbers) % every == 0 else 0.4
        left, width, height = 0.5 - side / 2, image["width"], image["height"]
        return [left * width, left * height, side * width, side * height]

    words = broken(rewrite(change), "train")
    advice = doctor(**words)[2]["Anchors"]["figures"]["advice"]
    if every == 6:
        assert advice == []
    else:
        assert advice[0] == "33% of the objects are matched by force only; of these"
        assert advice[1].startswith("  100% are too small")


# --- the command ---------------------------------------------------------------------------------


def test_only_another_check_is_overwritten(doctor, detection_recipe, as_command, tmp_path, capsys):
    words = ["check", *as_command(detection_recipe)[1:]]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("notes")
    assert main([*words, "--out", str(mine)]) == 2
    assert capsys.readouterr().err == (
        f"{mine}: holds something else than the result of a check; choose another folder with --out\n"
    )
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    for _ in range(2):
        assert main([*words, f"--out={tmp_path / 'new'}"]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "check.json",
        "samples.png",
    ]
    # a check that draws nothing leaves no picture of an earlier one
    assert main([*words, "dataset.root_train=nowhere", f"--out={tmp_path / 'new'}"]) == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["check.json"]
    assert not (tmp_path / "results").exists()


def test_mistakes_of_all_splits_are_reported_at_once(doctor, tmp_path):
    places = {f"dataset.root_{split}": str(tmp_path / split) for split in ("train", "val")}
    code, problems, findings = doctor(**places)
    assert code == 2
    assert list(findings) == ["Data"]
    assert len(problems) == 2
    for problem, key in zip(problems, places, strict=True):
        assert f"{key}: no folder" in problem


def test_a_test_split_is_checked_as_stand_alone_evaluation_sees_it(doctor, coco_folder):
    own = {"dataset.root_test": str(coco_folder), "dataset.eval_batch_size0": 1}
    own |= {"evaluation.detection.resize_input_images": False}
    code, _, findings = doctor(**own, **{"dataset.disable_val": True})
    assert code == 0
    assert "Ground truth as predictions: val" not in findings
    assert findings["Ground truth as predictions: test"]["figures"]["ap"] == pytest.approx(100)


def test_a_task_without_further_checks(tiny_recipe, as_command, capsys):
    words = ["check", *as_command(tiny_recipe)[1:]]
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "Data: ok",
        "    train: 72 images",
        "    val: 33 images",
        "    3 classes: across, down, slant",
        "Task: ok",
        "    no further checks",
    ]


def test_findings_come_one_by_one(load):
    findings = check(load())
    assert next(findings).title == "Data"
    assert [finding.title for finding in findings] == TITLES[1:]


def test_what_is_neither_a_recipe_nor_weights(capsys):
    assert main(["check"]) == 2
    assert main(["check", "mobilevit_small"]) == 2
    assert main(["check", "weights.pt"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "cvnets check: a recipe is needed, or weights and --data; cvnets list recipes shows the "
        "shipped recipes",
        "mobilevit_small: no such recipe here or among the shipped ones - cvnets list recipes shows "
        "those; weights are checked with --data DIR",
        "cvnets check: the following arguments are required: --data; cvnets check --help shows the "
        "arguments",
    ]
