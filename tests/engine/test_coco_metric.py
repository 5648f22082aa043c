"""coco_map against pycocotools run directly on files, and against figures made by hand."""

import csv
import json
import logging
import math
import pickle
import random
import sys

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import engine.components  # noqa: F401 - registers the metrics
from config.errors import UserError
from data.datasets.detection.categories import Categories
from data.datasets.detection.objects import Truth
from engine.metrics import coco
from engine.metrics.coco import CocoMap, CocoMapOptions, ImageDetections
from engine.metrics.coco_evaluation import NOTHING
from engine.metrics.metric import Observation, build_metrics, results
from engine.reading import load_recipe
from loss_fn.output import LossOutput

KEYS = ("bbox", "bbox_50", "bbox_75", "bbox_small", "bbox_medium", "bbox_large", "ar_100")
PLACES = (0, 1, 2, 3, 4, 5, 8)  # of KEYS in COCOeval.stats
CATEGORIES = Categories((2, 3, 5, 11, 90), ("cat", "dog", "a, b", "$rare$", "_never"))
BACKENDS = ("pycocotools", "faster-coco-eval")


def annotations(seed=0, images=40):
    """A COCO data set: crowds, empty images, no area here and there, a category without objects.

    Category 11 has crowds only, 90 nothing; ids of images are in no order.
    """
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[:images].tolist()
    records = []
    for image in ids[: images - 6]:
        for _ in range(rng.integers(1, 9)):
            x, y, w, h = (*rng.uniform(0, 300, 2), *np.exp(rng.uniform(2, 5.5, 2)))
            category = int(rng.choice([2, 3, 5, 11], p=[0.6, 0.2, 0.15, 0.05]))
            crowd = int(rng.random() < 0.1 or category == 11)
            record = {"image_id": image, "category_id": category, "bbox": [x, y, w, h]}
            record |= {"id": len(records) + 1, "iscrowd": crowd}
            record |= {} if rng.random() < 0.2 else {"area": w * h * rng.uniform(0.4, 0.9)}
            records.append(record)
    names = [{"id": i, "name": n} for i, n in zip(CATEGORIES.ids, CATEGORIES.names, strict=True)]
    return {
        "images": [{"id": image, "width": 640, "height": 640} for image in ids],
        "categories": names[::-1],
        "annotations": records,
    }


def with_areas(data):
    """pycocotools knows no annotation without an area."""
    filled = [{"area": r["bbox"][2] * r["bbox"][3]} | r for r in data["annotations"]]
    return data | {"annotations": filled}


def truths(data):
    """Image id -> its Truth."""
    found = {}
    for image in data["images"]:
        mine = [r for r in with_areas(data)["annotations"] if r["image_id"] == image["id"]]
        found[image["id"]] = Truth(
            image["id"],
            np.array([r["bbox"] for r in mine], np.float64).reshape(-1, 4),
            np.array([CATEGORIES.ids.index(r["category_id"]) + 1 for r in mine], np.int64),
            np.array([r["area"] for r in mine], np.float64),
            np.array([r["iscrowd"] for r in mine], np.bool_),
        )
    return found


def detections(data, seed=1):
    """Image id -> its ImageDetections: shifted objects and noise, with many equal scores.

    One image has 250 detections of one class, some have none.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for number, (image, truth) in enumerate(truths(data).items()):
        count = 250 if number == 3 else int(rng.integers(0, 20))
        hits = np.repeat(np.arange(len(truth.boxes)), 2)
        if number % 9 == 5:
            count, hits = 0, hits[:0]
        shift = rng.normal(0, 0.08, (len(hits), 4)) * np.tile(truth.boxes[hits, 2:], 2)
        noise = np.concatenate(
            [rng.uniform(0, 300, (count, 2)), rng.uniform(5, 200, (count, 2))], 1
        )
        labels = np.full(count, 1) if count == 250 else rng.integers(1, 6, count)
        found[image] = ImageDetections(
            image,
            np.concatenate([truth.boxes[hits] + shift, noise]),
            np.concatenate([rng.beta(3, 2, len(hits)), rng.beta(1, 4, count)]).round(2),
            np.concatenate([truth.labels[hits], labels]).astype(np.int64),
        )
    return found


def observe(metric, found, truth):
    """Show some images to the metric."""
    loss = LossOutput(torch.tensor(0.0))
    metric.update(Observation(None, {"truth": truth}, loss, len(truth), predictions=found))


def measured(found, truth, backend="pycocotools"):
    """A metric that has seen all images, and its states."""
    metric = CocoMap(CocoMapOptions(backend=backend))
    for image in found:
        observe(metric, [found[image]], [truth[image]])
    return metric, [metric.state()]


def official(data, results_of_model, tmp_path):
    """COCOeval of pycocotools on files; `results_of_model` is a list, or the path of a file."""
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(with_areas(data)))
    truth = COCO(str(path))
    run = COCOeval(truth, truth.loadRes(results_of_model), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run


def figures_of(run):
    return {key: 100 * float(run.stats[place]) for key, place in zip(KEYS, PLACES, strict=True)}


def as_results(found):
    return [
        {"image_id": i, "category_id": CATEGORIES.ids[label - 1], "bbox": box, "score": score}
        for i, one in found.items()
        for box, score, label in zip(*(column.tolist() for column in one[1:]), strict=True)
    ]


def test_figures_are_those_of_pycocotools_to_the_last_bit(tmp_path):
    data = annotations()
    found = detections(data)
    metric, states = measured(found, truths(data))
    values = metric.result(states)
    assert values == figures_of(official(data, as_results(found), tmp_path))
    assert all(10 < value < 90 for value in values.values())
    metric.report(states, CATEGORIES).write(tmp_path)
    assert values == figures_of(official(data, str(tmp_path / "detections.json"), tmp_path))


def test_faster_coco_eval_finds_the_same():
    pytest.importorskip("faster_coco_eval")
    data = annotations(seed=5)
    found = detections(data)
    values = [m.result(s) for m, s in (measured(found, truths(data), b) for b in BACKENDS)]
    assert values[1] == pytest.approx(values[0], rel=1e-9, abs=1e-9)
    assert 10 < values[0]["bbox"] < 90


def test_merge_has_the_same_bits_for_every_dealing():
    """Batches of any size on any rank, states taken in between and sent through pickle."""
    data = annotations()
    found, truth = detections(data), truths(data)
    values = []
    for processes, batch in ((1, 1), (2, 4), (3, 1), (7, 6), (50, 1)):
        order = random.Random(processes).sample(sorted(found), len(found))
        ranks = [build_metrics(["coco_map"])["coco_map"] for _ in range(processes)]
        for number, start in enumerate(range(0, len(order), batch)):
            images = order[start : start + batch]
            rank = ranks[number % processes]
            observe(rank, [found[i] for i in images], [truth[i] for i in images])
            if number % 3 == 0:
                rank.state()
        states = [pickle.loads(pickle.dumps(rank.state())) for rank in ranks]
        assert sum(len(state.images) > 0 for state in states) == min(processes, 40)
        values += [rank.result(states) for rank in (ranks[0], ranks[-1])]
        values.append(ranks[0].result(states[::-1]))
    assert all(value == values[0] for value in values)


def one_class(*images):
    """Truths and detections of (objects, [(box, score), ...]) per image, all of label 1."""
    truth, found = {}, {}
    for number, (objects, hits) in enumerate(images, start=1):
        boxes = np.array(objects, np.float64).reshape(-1, 4)
        count = len(boxes)
        area = boxes[:, 2] * boxes[:, 3]
        truth[number] = Truth(number, boxes, np.ones(count, int), area, np.zeros(count, bool))
        found[number] = ImageDetections(
            number,
            np.array([box for box, _ in hits], np.float64).reshape(-1, 4),
            np.array([score for _, score in hits], np.float64),
            np.ones(len(hits), int),
        )
    return found, truth


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend):
    """A hit, a false alarm and a hit of IoU 0.62, in this order, for two large objects.

    Up to IoU 0.6 the precision is 1 up to recall 0.5 (51 of 101 points) and then 2/3; above, it is
    1 for those 51 points and then 0.
    """
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    whole, part, away = [10, 10, 100, 100], [10, 10, 100, 62], [300, 300, 50, 50]
    found, truth = one_class(([whole], [(whole, 0.9), (away, 0.8)]), ([whole], [(part, 0.7)]))
    metric, states = measured(found, truth, backend)
    loose, strict = 100 * (51 + 50 * 2 / 3) / 101, 100 * 51 / 101
    expected = {
        "bbox": (3 * loose + 7 * strict) / 10,
        "bbox_50": loose,
        "bbox_75": strict,
        "bbox_small": math.nan,
        "bbox_medium": math.nan,
        "bbox_large": (3 * 100 + 7 * strict) / 10,  # the false alarm is not large: it is ignored
        "ar_100": (3 * 100 + 7 * 50) / 10,
    }
    assert metric.result(states) == pytest.approx(expected, nan_ok=True, rel=1e-12)


def test_a_detector_that_knows_the_truth():
    data = annotations()
    truth = truths(data)
    found = {
        image: ImageDetections(
            image, one.boxes[~one.crowd], np.ones((~one.crowd).sum()), one.labels[~one.crowd]
        )
        for image, one in truth.items()
    }
    metric, states = measured(found, truth)
    assert metric.result(states) == pytest.approx(dict.fromkeys(KEYS, 100.0), rel=1e-12)


def test_no_detections_at_all(tmp_path):
    data = annotations()
    truth = truths(data)
    nothing = {
        i: ImageDetections(i, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)) for i in truth
    }
    metric, states = measured(nothing, truth)
    assert metric.result(states) == dict.fromkeys(KEYS, 0.0)
    metric.report(states, CATEGORIES).write(tmp_path)
    assert json.loads((tmp_path / "detections.json").read_text()) == []
    assert len(list(csv.reader((tmp_path / "per_class.csv").read_text().splitlines()))) == 1 + len(
        CATEGORIES
    )


@pytest.mark.parametrize("images", [0, 2])
def test_no_objects_at_all(images, tmp_path):
    """Nothing to find is no value, which never is the best checkpoint."""
    found, truth = one_class(*[([], [([1, 2, 30, 40], 0.5)])] * images)
    metric, states = measured(found, truth)
    for no_states in (states, []):
        values = metric.result(no_states)
        assert values == pytest.approx(dict.fromkeys(KEYS, math.nan), nan_ok=True)
    report = metric.report(states, CATEGORIES)
    report.write(tmp_path)
    assert report.lines()[0] == f"{images} images, 0 objects, 0 crowds, {images} detections"
    assert len(report.lines()) == 2
    assert len(json.loads((tmp_path / "detections.json").read_text())) == images


def test_values_are_parts_of_the_metric():
    metrics = build_metrics(["coco_map"])
    del metrics["loss"]
    assert list(results(metrics, [{"coco_map": NOTHING}])) == [f"coco_map.{key}" for key in KEYS]


def test_an_image_counts_once():
    data = annotations()
    found, truth = detections(data), truths(data)
    metric, (state,) = measured(found, truth)
    image = next(iter(found))
    other, _ = measured({image: found[image]}, truth)
    with pytest.raises(UserError, match=f"image id {image} was evaluated twice"):
        metric.result([state, other.state()])
    observe(metric, [found[image]], [truth[image]])
    with pytest.raises(UserError, match=f"image id {image} was evaluated twice"):
        metric.result([metric.state()])


def test_detections_and_truth_of_different_images():
    found, truth = one_class(([], []), ([], []))
    with pytest.raises(ValueError, match="detections of image 1 and truth of 2"):
        observe(CocoMap(CocoMapOptions()), [found[1]], [truth[2]])


def test_numbers_that_are_not_finite_match_nothing(caplog):
    """pycocotools takes an overlap of nan for a match."""
    box, away, bad = [10, 10, 100, 100], [300, 10, 100, 100], [10, 10, math.nan, 100]
    hits = [(box, 0.8), (away, 0.7)]
    clean = one_class(([box], []), ([box, [0, 0, 0, 0]], hits))
    found, truth = one_class(
        ([box], [(bad, 0.9), (box, math.nan), ([math.inf] * 4, 0.9)]), ([box, bad], hits)
    )
    assert math.isnan(truth[2].area[1])
    with caplog.at_level(logging.WARNING):
        metric, states = measured(found, truth)
    assert [record.getMessage() for record in caplog.records] == [
        "coco_map: image id 1: 3 of 3 detections are not finite and do not count"
    ]
    plain, plain_states = measured(*clean)
    values = metric.result(states)
    assert values == pytest.approx(plain.result(plain_states), nan_ok=True, rel=0, abs=0)
    assert values["bbox"] == pytest.approx(100 * 34 / 101)
    assert len(metric.report(states, CATEGORIES).evaluation.seen.detections) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_printed_or_logged(backend, capfd, caplog):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    data = annotations(images=10)
    with caplog.at_level(logging.DEBUG):
        metric, states = measured(detections(data), truths(data), backend)
        metric.result(states)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


# --- mistakes ------------------------------------------------------------------------------------


def test_training_has_no_detections():
    seen = Observation(None, {}, LossOutput(torch.tensor(0.0)), 1, training=True)
    with pytest.raises(UserError, match=r"^stats\.train: coco_map"):
        build_metrics(["coco_map"])["coco_map"].update(seen)


@pytest.mark.parametrize(
    ("targets", "predictions"), [(torch.zeros(1), torch.zeros(1, 3)), ({"truth": []}, None)]
)
def test_a_task_without_detections(targets, predictions):
    loss = LossOutput(torch.tensor(0.0))
    seen = Observation(None, targets, loss, 1, predictions=predictions)
    with pytest.raises(UserError, match=r"^stats\.val: coco_map"):
        build_metrics(["coco_map"])["coco_map"].update(seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_types": ["bbox", "segm"]}, r"iou_types: 'segm' cannot be measured.* no masks"),
        ({"iou_types": []}, "iou_types"),
        ({"backend": "slow"}, "backend.*allowed: faster-coco-eval, pycocotools"),
    ],
)
def test_options_that_cannot_be(options, message):
    recipe = {f"stats.coco_map.{key}": value for key, value in options.items()}
    with pytest.raises(UserError, match=r"stats\.coco_map\." + message) as caught:
        load_recipe(recipe)
    assert len(caught.value.lines()) == 1


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(
        UserError, match=r"stats\.coco_map\.backend: .*pip install faster-coco-eval"
    ):
        CocoMap(CocoMapOptions(backend="faster-coco-eval"))


def test_a_larger_value_is_better():
    recipe = {"stats.val": ["coco_map"], "stats.checkpoint_metric": "coco_map.bbox"}
    recipe |= {"model.detection.name": "ssd"}
    assert load_recipe({**recipe, "stats.checkpoint_metric_max": True})
    with pytest.raises(UserError, match="coco_map is better when it is larger"):
        load_recipe({**recipe, "stats.checkpoint_metric_max": False})


# --- the report ----------------------------------------------------------------------------------


def test_the_report_evaluates_nothing_anew(monkeypatch):
    calls = []
    monkeypatch.setattr(coco, "evaluate", lambda *a, f=coco.evaluate: calls.append(1) or f(*a))
    data = annotations(images=10)
    found, truth = detections(data), truths(data)
    metric, states = measured(found, truth)
    values = metric.result(states)
    report = metric.report(list(states), CATEGORIES)
    assert (len(calls), report.evaluation.figures()) == (1, values)
    fewer = {image: found[image] for image in list(found)[:5]}
    other_metric, other_states = measured(fewer, truth)
    assert metric.result(other_states) == other_metric.result(other_states) != values


def test_the_table_has_the_figures_of_every_class(tmp_path):
    data = annotations()
    found = detections(data)
    metric, states = measured(found, truths(data))
    metric.report(states, CATEGORIES).write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "per_class.csv").read_text().splitlines()))
    assert [(int(row["id"]), row["name"]) for row in rows] == list(
        zip(CATEGORIES.ids, CATEGORIES.names, strict=True)
    )
    run = official(data, as_results(found), tmp_path)
    precision, recall = run.eval["precision"], run.eval["recall"]
    slices = {"AP": np.s_[:, :, :, 0, 2], "AP50": np.s_[:1, :, :, 0, 2]}
    slices |= {"AP75": np.s_[5:6, :, :, 0, 2], "AP_small": np.s_[:, :, :, 1, 2]}
    slices |= {"AP_medium": np.s_[:, :, :, 2, 2], "AP_large": np.s_[:, :, :, 3, 2]}
    for place, row in enumerate(rows):
        records = [r for r in data["annotations"] if r["category_id"] == int(row["id"])]
        objects = [r["image_id"] for r in records if not r["iscrowd"]]
        guesses = [r for r in as_results(found) if r["category_id"] == int(row["id"])]
        counts = {key: int(row[key]) for key in ("images", "objects", "detections")}
        assert list(counts.values()) == [len(set(objects)), len(objects), len(guesses)]
        expected = {key: precision[part][:, :, place].mean() for key, part in slices.items()}
        expected["AR100"] = recall[:, place, 0, 2].mean()
        for key, value in expected.items():
            shown = math.nan if row[key] == "" else float(row[key])
            wanted = math.nan if value == -1 else 100 * value
            assert shown == pytest.approx(wanted, abs=1e-4, nan_ok=True)
    assert [row["AP"] == "" for row in rows] == [False, False, False, True, True]


def test_the_lines_say_the_gist():
    data = annotations()
    metric, states = measured(detections(data), truths(data))
    values = {key: f"{value:.1f}" for key, value in metric.result(states).items()}
    lines = metric.report(states, CATEGORIES).lines()
    crowds = sum(record["iscrowd"] for record in data["annotations"])
    objects = len(data["annotations"]) - crowds
    assert lines[0].startswith(f"40 images, {objects} objects, {crowds} crowds, ")
    assert lines[1].startswith(f"AP {values['bbox']} | at IoU 0.5 {values['bbox_50']}, at 0.75 ")
    assert lines[1].endswith(
        f"large {values['bbox_large']} | AR of 100 detections {values['ar_100']}"
    )
    assert lines[2].startswith("classes: ")
    assert all(f"{name} " in lines[2] for name in CATEGORIES.names[:3])
    assert len(lines) == 3 and "rare" not in lines[2] and "never" not in lines[2]


def many_classes(count):
    """Class number n has n objects, of which one is found, roughly that of the second class, two of
    the third and none of the last. Names are such that matplotlib hides or stumbles over."""
    found, truth = {}, {}
    for label in range(1, count + 1):
        boxes = np.array([[60.0 * n, 0, 50, 50] for n in range(label)])
        labels, crowd = np.full(label, label), np.zeros(label, bool)
        truth[label] = Truth(label, boxes, labels, np.full(label, 2500.0), crowd)
        hits = int(label < count or count == 1) + (label == 3)
        rough = boxes[:hits] * ([1, 1, 0.72, 1] if label == 2 else 1)
        found[label] = ImageDetections(label, rough, np.ones(hits), labels[:hits])
    return found, truth, Categories(tuple(range(count)), tuple(f"_$\\q{n}$" for n in range(count)))


@pytest.mark.parametrize(("count", "named"), [(1, 1), (8, 8), (9, 6), (30, 6)])
def test_the_curves(count, named, tmp_path):
    """Every class has a line; of many, the best and the worst are named."""
    found, truth, categories = many_classes(count)
    metric, states = measured(found, truth)
    report = metric.report(states, categories)
    values = metric.result(states)
    for panel, name in zip(report.figure().axes, ("bbox_50", "bbox_75"), strict=True):
        mean, *lines = panel.get_lines()
        curves = np.array([line.get_ydata() for line in lines])
        assert len(lines) == count
        assert np.allclose(mean.get_ydata(), curves.mean(0), rtol=0, atol=1e-12)
        assert 100 * mean.get_ydata().mean() == pytest.approx(values[name])
        assert lines[0].get_xdata()[(curves[0] > 0.5)].max() == 1
        assert len({line.get_color() for line in lines}) == (count if count == named else 7)
        texts = [text.get_text() for text in panel.get_legend().get_texts()]
        assert texts[:2] == [f"{values[name]:.1f} mean of the classes", "100.0 _$\\q0$"]
        assert count == 1 or texts[-1] == f"0.0 _$\\q{count - 1}$"
        assert len(texts) == named + 1
    last = report.lines()[2]
    assert last.count(",") == (count - 1 if count == named else 4)
    assert count < 9 or last.startswith("best classes: _$\\q0$ 100.0, ")
    assert count < 9 or f"| worst: _$\\q{count - 1}$ 0.0, " in last
    report.write(tmp_path)
    assert cv2.imread(str(tmp_path / "precision_recall.png")).std() > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "detections.json",
        "per_class.csv",
        "precision_recall.png",
    ]


def test_all_digits_are_written(tmp_path, monkeypatch):
    """In pieces that fit together, whatever their length."""
    data = annotations()
    found = detections(data)
    metric, states = measured(found, truths(data))
    expected = sorted(as_results(found), key=lambda row: row["image_id"])
    for chunk in (1, 7, len(expected), 10**6):
        monkeypatch.setattr("engine.metrics.coco_report.CHUNK", chunk)
        metric.report(states, CATEGORIES).write(tmp_path)
        assert json.loads((tmp_path / "detections.json").read_text()) == expected
