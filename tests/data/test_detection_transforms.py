"""Transforms of detection: boxes stay on their objects, draws are those of SSD, batches fit."""

import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

import data.transforms  # noqa: F401 - registers the transforms
from config.errors import UserError
from config.registry import compose
from data.datasets.detection.coco import CocoDetection, DetectionDataOptions
from data.datasets.detection.objects import NO_OBJECTS, Objects, Truth
from data.datasets.shapes import generate
from data.kinds import TRANSFORMS
from data.loader import Loader, Source
from data.sample import SampleKey
from data.sampler.plan import Size, plan_epoch, plan_evaluation
from data.transforms.classification import TrainingTransform
from data.transforms.detection import (
    DetectionEvaluationTransform,
    DetectionTarget,
    DetectionTrainingTransform,
    collate,
    evaluation_size,
)
from data.transforms.photometric import PhotoMetricDistort, PhotoMetricDistortOptions, shift_hue
from data.transforms.section import ImageAugmentationSection
from data.transforms.ssd_crop import LEAST_SHARE, SSDCropOptions, SSDCropping

ON, OFF = {"enable": True}, {"enable": False}
PLAIN = {"ssd_crop": OFF, "photo_metric_distort": OFF, "random_horizontal_flip": OFF}
HEIGHT, WIDTH = 90, 130
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
KEY = SampleKey(index=0, height=64, width=96, seed=5)


@pytest.fixture(autouse=True)
def own_transforms(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))


def section(**values) -> ImageAugmentationSection:
    return compose(ImageAugmentationSection, enabled=TRANSFORMS)(**values)


def objects_at(*boxes, image_id=1) -> Objects:
    """Objects of labels 1, 2, ... at these corners."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(1, len(boxes) + 1)
    truth = Truth(image_id, corners.astype(float), labels, labels * 1.0, labels > len(labels))
    return Objects(corners, labels, truth)


def train(objects, image=NOISE, seed=5, key=KEY, **values):
    torch.manual_seed(seed)
    return DetectionTrainingTransform(section(**values))(image, objects, key)


def register(name, change) -> None:
    TRANSFORMS.register(name)(lambda options, *, size: change)


@st.composite
def corner_boxes(draw, least=14, most=3, height=HEIGHT, width=WIDTH):
    """Up to `most` boxes with whole numbers, at least `least` pixels wide and high."""
    boxes = []
    for _ in range(draw(st.integers(0, most))):
        w, h = draw(st.integers(least, width)), draw(st.integers(least, height))
        x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
        boxes.append((x, y, x + w, y + h))
    return boxes


def painted(boxes) -> np.ndarray:
    """Object number i fills its box in colour channel i: they may overlap."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2, channel] = 255
    return image


# --- boxes and labels stay with their objects ----------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    boxes=corner_boxes(),
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(32, 160), st.integers(32, 160)),
)
def test_boxes_frame_the_painted_pixels_after_all_transforms(boxes, seed, size):
    key = SampleKey(0, *size, 0)
    values = {"ssd_crop": {"min_crop_side": 30}, "photo_metric_distort": OFF}
    sample = train(objects_at(*boxes), painted(boxes), seed, key, **values)
    height, width = size
    assert (sample.image.shape, sample.image.dtype) == ((3, *size), torch.uint8)
    assert type(sample.image) is torch.Tensor
    assert sample.size == (HEIGHT, WIDTH)
    target = sample.target
    assert (target.boxes.dtype, target.labels.dtype) == (torch.float32, torch.int64)
    assert type(target.boxes) is torch.Tensor
    assert len(target.boxes) == len(target.labels) >= min(1, len(boxes))
    assert ((target.boxes >= 0) & (target.boxes <= 1)).all()
    assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
    for box, label in zip(target.boxes, target.labels, strict=True):
        rows, columns = np.nonzero(sample.image[int(label) - 1].numpy() > 127)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = box.numpy() * [width, height, width, height]
        assert np.abs(edges - expected).max() <= 1.0


def test_a_training_image_without_objects_is_legal():
    for seed in range(8):
        sample = train(objects_at(), seed=seed)
        assert sample.image.shape == (3, 64, 96)
        assert (sample.target.boxes.shape, len(sample.target.labels)) == ((0, 4), 0)


def test_the_same_seed_gives_the_same_sample_and_only_torch_is_asked():
    objects = objects_at((10, 10, 60, 70), (50, 20, 120, 80))
    for seed in range(5):
        np.random.seed(seed)
        one, other = train(objects, seed=seed), train(objects, seed=seed)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.target.boxes, other.target.boxes)
    different = {train(objects, seed=seed).image.numpy().tobytes() for seed in range(5)}
    assert len(different) == 5


@given(boxes=corner_boxes(least=1))
@settings(max_examples=30, deadline=None)
def test_flipping_twice_changes_nothing(boxes):
    key = KEY._replace(height=HEIGHT, width=WIDTH)
    values = {**PLAIN, "random_horizontal_flip": {"p": 1.0}}
    first = train(objects_at(*boxes), key=key, **values)
    assert torch.equal(first.image, torch.from_numpy(NOISE[:, ::-1].copy()).permute(2, 0, 1))
    mirrored = first.target.boxes.numpy() * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    second = train(objects_at(*mirrored), first.image.permute(1, 2, 0).numpy(), key=key, **values)
    assert np.array_equal(second.image.permute(1, 2, 0).numpy(), NOISE)
    back = second.target.boxes.numpy() * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    assert np.allclose(back, np.reshape(boxes, (-1, 4)), atol=1e-4)


def test_boxes_that_leave_the_image_go_with_their_labels():
    shift = v2.RandomAffine(0, translate=None)
    shift.make_params = lambda inputs: {
        "angle": 0.0, "translate": (48, 0), "scale": 1.0, "shear": (0.0, 0.0)
    }  # fmt: skip
    register("shift", shift)
    objects = objects_at((0, 0, 13, 90), (65, 0, 130, 45), (26, 9, 52, 45))
    target = train(objects, shift=ON, **PLAIN).target  # by half of the width to the right
    assert target.labels.tolist() == [1, 3]
    expected = torch.tensor([[0.5, 0, 0.6, 1], [0.7, 0.1, 0.9, 0.5]])
    assert torch.allclose(target.boxes, expected, atol=1e-6)


# --- against torchvision -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_colours_flip_and_resize_are_those_of_torchvision(seed):
    corners = [(10, 10, 60, 70), (50, 20, 120, 80)]
    sample = train(objects_at(*corners), seed=seed, ssd_crop=OFF)
    peer = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomHorizontalFlip(),
            v2.Resize((64, 96), antialias=True),
        ]
    )
    torch.manual_seed(seed)
    image, boxes = peer(
        tv_tensors.Image(torch.from_numpy(NOISE).permute(2, 0, 1)),
        tv_tensors.BoundingBoxes(
            torch.tensor(corners).float(), format="XYXY", canvas_size=(HEIGHT, WIDTH)
        ),
    )
    assert (sample.image.int() - image.int()).abs().max() <= 2  # the rounding of hue
    expected = boxes.as_subclass(torch.Tensor) / torch.tensor([96, 64, 96, 64])
    assert torch.equal(sample.target.boxes, expected)


@pytest.mark.parametrize("shift", [0.0, 0.05, -0.05, 0.3, 0.5, -0.5])
def test_hue_is_that_of_torchvision_within_a_grey_value(shift):
    every = torch.from_numpy(NOISE).permute(2, 0, 1)
    for image in (every, every[:, 3:41, 7:50], every.contiguous(), every // 255 * 255):
        ours, peer = shift_hue(image, shift), functional.adjust_hue(image, shift)
        assert (ours.shape, ours.dtype) == (image.shape, torch.uint8)
        difference = (ours.int() - peer.int()).abs().float()
        assert difference.max() <= (0 if shift == 0 else 1)
        assert difference.mean() < 0.2


@pytest.mark.parametrize(
    ("letter", "word"),
    [("alpha", "contrast"), ("beta", "brightness"), ("gamma", "saturation"), ("delta", "hue")],
)
def test_official_names_of_the_ranges(letter, word):
    ranges = {"contrast": (1, 1), "brightness": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    peer = v2.RandomPhotometricDistort(**(ranges | {word: (0.3, 0.3)}), p=1.0)
    neutral = {"alpha": 1, "beta": 1, "gamma": 1, "delta": 0} | {letter: 0.3}
    ours = {f"{name}_{end}": value for name, value in neutral.items() for end in ("min", "max")}
    options = PhotoMetricDistortOptions(**{name: float(v) for name, v in ours.items()}, p=1.0)
    change = TRANSFORMS["photo_metric_distort"].component(options, size=(1, 1))
    image = torch.from_numpy(NOISE).permute(2, 0, 1)
    results = []
    for transform in (change, peer):
        torch.manual_seed(3)
        results.append(transform(image).int())
    assert (results[0] - results[1]).abs().max() <= 1
    assert (results[0] - image.int()).abs().max() > 50


def test_default_ranges_are_those_of_torchvision_and_masks_keep_their_labels():
    ours = TRANSFORMS["photo_metric_distort"].component(PhotoMetricDistortOptions(), size=(1, 1))
    peer = v2.RandomPhotometricDistort()
    for name in ("brightness", "contrast", "saturation", "hue", "p"):
        assert getattr(ours, name) == getattr(peer, name)
    mask = tv_tensors.Mask(torch.arange(12).reshape(1, 3, 4))
    image = tv_tensors.Image(torch.from_numpy(NOISE).permute(2, 0, 1))
    changed, same = PhotoMetricDistort(brightness=(0.5, 0.5), p=1.0)(image, mask)
    assert torch.equal(same, mask)
    assert type(changed) is tv_tensors.Image
    assert not torch.equal(changed, image)


# --- the crop of SSD -----------------------------------------------------------------------------


def place_image(height, width) -> torch.Tensor:
    """An image that knows its places: red is x, green is y."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y, x * 0]).to(torch.uint8)


def cropped(boxes, seed, size=(HEIGHT, WIDTH), **options):
    """The window (x1, y1, x2, y2) that was cut out, and the boxes."""
    bounded = SSDCropOptions(**({"min_crop_side": 1} | options))
    crop = SSDCropping(bounded, size=(1, 1))
    torch.manual_seed(seed)
    given = tv_tensors.BoundingBoxes(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), format="XYXY", canvas_size=size
    )
    image, after = crop(tv_tensors.Image(place_image(*size)), given)
    x, y = image[0, 0, 0].item(), image[1, 0, 0].item()
    assert after.canvas_size == image.shape[1:]
    return (x, y, x + image.shape[2], y + image.shape[1]), after.as_subclass(torch.Tensor)


def is_inside(box, window) -> bool:
    """Whether the centre of the box lies in the window, not on its edge."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return window[0] < x < window[2] and window[1] < y < window[3]


@settings(max_examples=200, deadline=None)
@given(
    boxes=corner_boxes(least=2, most=5).filter(len),
    seed=st.integers(0, 2**32),
    least=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7]),
)
def test_crops_keep_the_rules_of_ssd(boxes, seed, least):
    window, after = cropped(boxes, seed, iou_thresholds=(least,))
    kept = [is_inside(box, window) for box in boxes]
    if window == (0, 0, WIDTH, HEIGHT):
        assert after.tolist() == [list(map(float, box)) for box in boxes]
        return
    width, height = window[2] - window[0], window[3] - window[1]
    assert least > 0
    assert any(kept)
    assert width >= int(LEAST_SHARE * WIDTH) and height >= int(LEAST_SHARE * HEIGHT)
    assert 0.5 <= height / width <= 2
    ious = box_iou(torch.tensor(boxes), torch.tensor([window]))
    assert ious.max() >= least - 1e-6
    left, top = window[:2]
    for box, result, stays in zip(boxes, after.tolist(), kept, strict=True):
        x1, x2 = (min(max(x - left, 0), width) for x in box[::2])
        y1, y2 = (min(max(y - top, 0), height) for y in box[1::2])
        assert result == ([x1, y1, x2, y2] if stays else [0, 0, 0, 0])


def one_after_the_other(boxes, rng, height, width):
    """The crop as it is described: draws until one fits; plain loops."""
    while True:
        least = rng.choice([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
        if least == 0:
            return (0, 0, width, height)
        for _ in range(40):
            w, h = int(rng.uniform(0.3, 1) * width), int(rng.uniform(0.3, 1) * height)
            if not 0.5 <= h / w <= 2 or min(w, h) < 100:
                continue
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            window = (left, top, left + w, top + h)
            best = 0.0
            for x1, y1, x2, y2 in boxes:
                across = max(min(x2, window[2]) - max(x1, left), 0)
                down = max(min(y2, window[3]) - max(y1, top), 0)
                both = across * down
                best = max(best, both / (w * h + (x2 - x1) * (y2 - y1) - both))
            if best >= least and any(is_inside(box, window) for box in boxes):
                return window


def test_crops_are_distributed_as_described():
    """All trials of a threshold are drawn at once: it must not make a difference."""
    boxes, size, draws = [(20, 30, 140, 150), (100, 60, 240, 190), (5, 5, 40, 30)], (200, 250), 1500
    rng = np.random.default_rng(1)
    theirs = np.array([one_after_the_other(boxes, rng, *size) for _ in range(draws)])
    ours = np.array([cropped(boxes, seed, size, min_crop_side=100)[0] for seed in range(draws)])

    def facts(windows):
        width, height = windows[:, 2] - windows[:, 0], windows[:, 3] - windows[:, 1]
        whole = (width == size[1]) & (height == size[0])
        return np.stack([whole, width / 250, height / 200, *windows[:, :2].T / 200], 1)

    one, other = facts(theirs), facts(ours)
    deviation = np.sqrt((one.var(0) + other.var(0)) / draws)
    assert (np.abs(one.mean(0) - other.mean(0)) < 4 * deviation).all()
    assert 0.1 < one[:, 0].mean() < 0.5


def test_the_crop_comes_to_an_end_and_leaves_what_cannot_be_cropped():
    whole = (0, 0, WIDTH, HEIGHT)
    tiny = [(50, 50, 51, 51)]
    assert cropped(tiny, 0, iou_thresholds=(0.9, 1.0))[0] == whole
    assert cropped([], 0)[0] == whole
    assert {cropped([(9, 9, 80, 80)], seed, iou_thresholds=(0.0,))[0] for seed in range(20)} == {
        whole
    }
    assert {cropped([(9, 9, 80, 80)], s, min_crop_side=100)[0] for s in range(20)} == {whole}
    assert len({cropped([(9, 9, 80, 80)], seed)[0] for seed in range(20)}) > 10
    assert SSDCropOptions().min_crop_side == 100
    assert cropped([(0, 0, 1, 2)], 0, size=(2, 1))[0] == (0, 0, 1, 2)


def test_crops_reach_every_edge():
    found = {
        cropped([(2, 1, 8, 7)], seed, (8, 10), iou_thresholds=(0.1,))[0] for seed in range(400)
    }
    assert len(found) > 50
    partly = [window for window in found if window != (0, 0, 10, 8)]
    assert {window[0] for window in partly} >= {0, 1, 2, 3}
    assert {window[2] for window in partly if window[0]} >= {7, 8, 9, 10}
    assert {window[3] for window in partly if window[1]} >= {6, 7, 8}


def test_more_trials_find_what_one_does_not():
    """Half of the first draws leave the image as it is; one trial seldom finds a crop."""
    boxes = [(9, 9, 80, 80)]
    for trials, low, high in ((1, 1, 15), (40, 40, 60)):
        found = [
            cropped(boxes, seed, iou_thresholds=(0.0, 0.7), n_trials=trials)[0]
            for seed in range(200)
        ]
        share = 100 * np.mean([window != (0, 0, WIDTH, HEIGHT) for window in found])
        assert low <= share <= high


def test_aspect_ratios_are_height_over_width():
    boxes = [(9, 9, 80, 80)]
    for low, high in ((1.0, 1.2), (0.5, 0.6)):
        ratios = {"min_aspect_ratio": low, "max_aspect_ratio": high, "iou_thresholds": (0.1,)}
        for seed in range(20):
            x1, y1, x2, y2 = cropped(boxes, seed, **ratios)[0]
            assert low <= (y2 - y1) / (x2 - x1) <= high or (x2, y2) == (WIDTH, HEIGHT)


def test_a_crop_by_objects_is_refused_where_there_are_none():
    with pytest.raises(UserError, match=r"^image_augmentation.ssd_crop: .* detection only"):
        TrainingTransform(section(ssd_crop=ON))(NOISE, 0, KEY)


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (SSDCropOptions, {"iou_thresholds": (0.5, 1.5)}, "iou_thresholds: .* not all in"),
        (SSDCropOptions, {"iou_thresholds": ()}, "at least 1 item"),
        (SSDCropOptions, {"min_aspect_ratio": 3.0}, "min_aspect_ratio: 3 is above max_aspect_rat"),
        (PhotoMetricDistortOptions, {"gamma_min": 2.0}, "gamma_min: 2 is above gamma_max = 1.5"),
        (PhotoMetricDistortOptions, {"delta_max": 0.6}, "less than or equal to 0.5"),
    ],
)
def test_options_out_of_range(options, values, message):
    with pytest.raises(ValidationError, match=message):
        options(**values)


# --- what is on ----------------------------------------------------------------------------------


def steps_of(**values) -> list[str]:
    return [name for name, _ in DetectionTrainingTransform(section(**values))._before.of((1, 1))]


def test_crop_colours_and_flip_are_on_unless_they_are_switched_off():
    every = ["ssd_crop", "photo_metric_distort", "random_horizontal_flip"]
    assert steps_of() == every
    assert steps_of(**dict.fromkeys(every, ON)) == every
    assert steps_of(ssd_crop={"n_trials": 3}, random_horizontal_flip={"p": 0.1}) == every
    assert steps_of(**{name: {"enable": None} for name in every}) == every
    for name in every:
        assert steps_of(**{name: OFF}) == [other for other in every if other != name]
    objects = objects_at((10, 10, 60, 70))
    once, still_once = train(objects), train(objects, **dict.fromkeys(every, ON))
    assert torch.equal(once.image, still_once.image)


def test_nothing_of_it_is_on_in_other_tasks():
    assert section().enabled == ()
    peer = v2.Resize((64, 96), antialias=True)(torch.from_numpy(NOISE).permute(2, 0, 1))
    assert torch.equal(TrainingTransform(section())(NOISE, 0, KEY).image, peer)
    colours = TrainingTransform(section(photo_metric_distort={**ON, "p": 1.0}))(NOISE, 0, KEY)
    assert not torch.equal(colours.image, peer)
    assert type(colours.image) is torch.Tensor


# --- transforms of the user ----------------------------------------------------------------------


def test_a_function_of_the_user_gets_the_image_in_its_size_behind_all_others():
    seen = []
    register("mark", lambda image: (seen.append((type(image), tuple(image.shape))), image // 2)[1])
    objects = objects_at((10, 10, 60, 70))
    marked, plain = train(objects, mark=ON, **PLAIN), train(objects, **PLAIN)
    assert seen == [(torch.Tensor, (3, 64, 96))]
    assert torch.equal(marked.image, plain.image // 2)
    assert torch.equal(marked.target.boxes, plain.target.boxes)


def test_a_transform_of_torchvision_takes_the_boxes_along():
    register("turn", v2.RandomVerticalFlip(1.0))
    boxes = train(objects_at((13, 9, 65, 36)), turn=ON, **PLAIN).target.boxes
    assert torch.allclose(boxes, torch.tensor([[0.1, 0.6, 0.5, 0.9]]))
    resized = train(objects_at((0, 0, 65, 90)), random_resized_crop=ON, **PLAIN)
    assert resized.image.shape == (3, 64, 96)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image / 255, "the transform gave torch.float32 [3, 64, 96]; it has to give"),
        (lambda image: image[:, 1:], "the transform gave torch.uint8 [3, 63, 96]; it has to give"),
        (v2.Resize((32, 32)), "the transform gave torch.uint8 [3, 32, 32]; it has to give"),
        (v2.RandAugment(), "not for detection: Inputs of type BoundingBoxes are not supported by "),
        (
            v2.Lambda(lambda x: x // 2),
            "the transform made Tensor of the boxes; it has to leave the",
        ),
    ],
)
def test_a_transform_that_does_not_fit_is_named(change, message):
    register("odd", change)
    with pytest.raises(UserError, match=re.escape(f"image_augmentation.odd: {message}")):
        train(objects_at((10, 10, 60, 70)), odd=ON)


def test_a_transform_of_torchvision_may_drop_objects():
    register("tidy", v2.SanitizeBoundingBoxes(min_size=5))
    objects = objects_at([0, 0, WIDTH / 2, HEIGHT], [1, 1, 2, 2], [0, 0, WIDTH, HEIGHT / 2])
    target = train(objects, **PLAIN, tidy={"enable": True}).target
    assert target.labels.tolist() == objects.labels[[0, 2]].tolist()
    register("untidy", v2.SanitizeBoundingBoxes(min_size=5, labels_getter=None))
    with pytest.raises(UserError, match="untidy: the transform left 2 boxes and 3 labels"):
        train(objects, **PLAIN, untidy={"enable": True})


def test_the_crop_of_classification_is_none_of_detection():
    plain = train(objects_at([3, 4, 30, 20]), **PLAIN)
    other = train(objects_at([3, 4, 30, 20]), **PLAIN, random_resized_crop={"enable": True})
    assert torch.equal(plain.image, other.image)


def test_errors_inside_a_users_transform_stay_what_they_are():
    register("broken", v2.Lambda(lambda x: x + "1", tv_tensors.Image))
    with pytest.raises(TypeError):
        train(objects_at(), broken=ON)


# --- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ({}, (64, 96)),
        ({"size": 50}, (64, 96)),
        ({**ON, "size": 50}, (50, 50)),
        ({**ON, "size": (40, 70), "interpolation": "bicubic"}, (40, 70)),
        ({**ON, "size": (40, 70), "interpolation": "nearest"}, (40, 70)),
    ],
)
def test_evaluation_resizes_without_keeping_the_aspect_ratio(resize, expected):
    options = section(resize=resize)
    assert evaluation_size(options, 64, 96) == expected
    objects = objects_at((13, 9, 65, 36), (0, 0, 130, 90))
    sample = DetectionEvaluationTransform(options)(NOISE, objects, KEY)
    mode = v2.InterpolationMode(resize.get("interpolation", "bilinear"))
    image = torch.from_numpy(NOISE).permute(2, 0, 1)
    assert torch.equal(sample.image, functional.resize(image, list(expected), mode, antialias=True))
    shares = torch.tensor([[0.1, 0.1, 0.5, 0.4], [0, 0, 1, 1]])
    assert torch.allclose(sample.target.boxes, shares)
    assert sample.target.labels.tolist() == [1, 2]
    assert sample.target.truth is objects.truth
    assert sample.size == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("size", "expected"), [((90, 130), (64, 128)), ((20, 32), (32, 32))])
def test_images_may_keep_their_own_size_in_evaluation(size, expected):
    transform = DetectionEvaluationTransform(section(resize={**ON, "size": 50}), own_size=True)
    image = np.zeros((*size, 3), np.uint8)
    assert transform(image, NO_OBJECTS, KEY).image.shape == (3, *expected)


def test_evaluation_of_a_detector_crops_nothing():
    with pytest.raises(UserError, match=r"^image_augmentation\.center_crop: .* whole images"):
        DetectionEvaluationTransform(section(center_crop=ON))


# --- batches -------------------------------------------------------------------------------------


def test_targets_are_filled_up_to_the_most_objects():
    many = DetectionTarget(torch.rand(3, 4), torch.tensor([4, 5, 6]))
    one = DetectionTarget(torch.rand(1, 4), torch.tensor([7]))
    none = DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    batch = collate([one, none, many])
    assert set(batch) == {"boxes", "labels"}
    assert batch["labels"].tolist() == [[7, 0, 0], [0, 0, 0], [4, 5, 6]]
    assert torch.equal(batch["boxes"][2], many.boxes)
    assert torch.equal(batch["boxes"][0], torch.cat([one.boxes, torch.zeros(2, 4)]))
    assert (batch["boxes"].dtype, batch["labels"].dtype) == (torch.float32, torch.int64)
    empty = collate([none, none])
    assert (empty["boxes"].shape, empty["labels"].shape) == ((2, 1, 4), (2, 1))
    truths = [objects_at(image_id=number).truth for number in (3, 9)]
    known = collate([DetectionTarget(none.boxes, none.labels, truth) for truth in truths])
    assert [truth.image_id for truth in known["truth"]] == [3, 9]


@pytest.mark.parametrize("kind", [DetectionTrainingTransform, DetectionEvaluationTransform])
def test_transforms_of_a_recipe_can_be_sent_to_a_worker(kind):
    """The section's type is put together at run time, and a fresh process cannot find it."""
    options = section(ssd_crop={"min_crop_side": 30}, resize={**ON, "size": 30})
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(options)
    objects = objects_at((10, 10, 60, 70))
    samples = []
    used = kind(options)
    used(NOISE, objects, KEY)  # what was built does not travel
    for made in (used, pickle.loads(pickle.dumps(used))):
        torch.manual_seed(0)
        samples.append(made(NOISE, objects, KEY))
    assert torch.equal(samples[0].image, samples[1].image)
    assert torch.equal(samples[0].target.boxes, samples[1].target.boxes)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("detection") / "shapes"
    generate("coco", root, train=24, val=17, size=96)
    return root


def source(root, split) -> Source:
    training = split == "train"
    dataset = CocoDetection(DetectionDataOptions(), root=str(root), split=split)
    kind = DetectionTrainingTransform if training else DetectionEvaluationTransform
    transform = kind(section(ssd_crop={"min_crop_side": 30}))
    return Source(dataset, transform, collate, replace_bad=training)


def same(one, other) -> bool:
    return all(torch.equal(one.targets[k], other.targets[k]) for k in ("boxes", "labels")) and (
        torch.equal(one.images, other.images)
    )


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_batches_of_several_sizes_do_not_depend_on_workers_and_processes(shapes, context):
    data = source(shapes, "train")
    sizes = [Size(64, 64, 5), Size(96, 64, 3), Size(32, 32, 9)]
    plan = plan_epoch(seed=1, epoch=0, dataset_size=len(data), sizes=sizes, micro_batches=2)
    micros = [micro for step in plan.steps for micro in step]
    alone = list(Loader(data).training(plan))
    assert len({batch.images.shape[2:] for batch in alone}) > 1
    for batch, micro in zip(alone, micros, strict=True):
        assert batch.images.shape == (micro.images, 3, micro.height, micro.width)
        boxes, labels = batch.targets["boxes"], batch.targets["labels"]
        assert boxes.shape[:2] == labels.shape == (len(batch), max(1, (labels > 0).sum(1).max()))
        assert (boxes[labels > 0][:, 2:] > boxes[labels > 0][:, :2]).all()
        assert not boxes[labels == 0].any()
        assert "truth" not in batch.targets
    workers = Loader(data, workers=1, context=context).training(plan)
    assert all(same(mine, theirs) for mine, theirs in zip(alone, workers, strict=True))
    ranks = [list(Loader(data, rank=r, world_size=2).training(plan)) for r in range(2)]
    by_ids = {batch.ids: batch for rank in ranks for batch in rank}
    assert len(by_ids) == len(alone)
    assert all(same(batch, by_ids[batch.ids]) for batch in alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_batches_carry_the_truth(shapes, workers):
    data = source(shapes, "val")
    batches = list(Loader(data, workers=workers).evaluation(plan_evaluation(17, Size(64, 64, 5))))
    truths = [truth for batch in batches for truth in batch.targets["truth"]]
    assert [truth.image_id for truth in truths] == data.dataset.image_ids.tolist()
    places = [(b, n) for b in batches for n in range(len(b))]
    for (batch, place), truth in zip(places, truths, strict=True):
        labels = batch.targets["labels"][place]
        assert labels[labels > 0].tolist() == truth.labels[~truth.crowd].tolist()
        height, width = batch.sizes[place]
        pixels = batch.targets["boxes"][place][labels > 0].double().numpy()
        pixels = pixels * [width, height, width, height]
        x, y, w, h = truth.boxes[~truth.crowd].T
        assert np.allclose(pixels, np.stack([x, y, x + w, y + h], 1), atol=1e-4)
