"""Policies, colours, noise and erasing in the training of a classifier."""

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

import data.transforms  # noqa: F401 - registers the transforms
from config.errors import UserError
from config.registry import compose
from data.datasets.detection.objects import NO_OBJECTS
from data.datasets.segmentation.labels import Labels
from data.datasets.segmentation.segments import Segments
from data.kinds import TRANSFORMS
from data.sample import SampleKey
from data.transforms.classification import MIDDLE, ORDER, POLICIES, TrainingTransform
from data.transforms.detection import DetectionTrainingTransform
from data.transforms.policies import RandAugmentOptions
from data.transforms.section import ImageAugmentationSection
from data.transforms.segmentation import SegmentationTrainingTransform

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
KEY = SampleKey(index=0, height=24, width=32, seed=5)
OBJECTS = replace(NO_OBJECTS, boxes=np.array([[2, 3, 20, 30]], np.float32), labels=np.array([1]))
ON = {"enable": True}
MODES = {
    "nearest": v2.InterpolationMode.NEAREST,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "bicubic": v2.InterpolationMode.BICUBIC,
    "cubic": v2.InterpolationMode.BICUBIC,
}


def section(**values) -> ImageAugmentationSection:
    return compose(ImageAugmentationSection, enabled=TRANSFORMS)(**values)


def apply(seed, image=IMAGE, key=KEY, **values) -> torch.Tensor:
    torch.manual_seed(seed)
    return TrainingTransform(section(**values))(image, 0, key).image


def as_tensor(image=IMAGE) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def resized() -> torch.Tensor:
    return functional.resize(as_tensor(), [24, 32], antialias=True)


def expected(seed, *steps, image=None) -> torch.Tensor:
    """The resized image after these transforms of torchvision; those in a list get PIL images."""
    image = resized() if image is None else image
    torch.manual_seed(seed)
    for step in steps:
        if isinstance(step, list):
            (step,) = step
            image = functional.pil_to_tensor(step(functional.to_pil_image(image)))
        else:
            image = step(image)
    return image


@pytest.mark.parametrize("name", MODES)
def test_policies_are_those_of_torchvision_on_pil_images(name):
    mode, asked = MODES[name], {**ON, "interpolation": name}
    cases = [
        *(
            ({"auto_augment": {**asked, "policy": policy}}, v2.AutoAugment(kind, mode))
            for policy, kind in (
                ("imagenet", v2.AutoAugmentPolicy.IMAGENET),
                ("cifar10", v2.AutoAugmentPolicy.CIFAR10),
                ("svhn", v2.AutoAugmentPolicy.SVHN),
            )
        ),
        ({"rand_augment": asked}, v2.RandAugment(2, 9, 31, mode)),
        (
            {"rand_augment": {**asked, "num_ops": 3, "magnitude": 4, "num_magnitude_bins": 6}},
            v2.RandAugment(3, 4, 6, mode),
        ),
        ({"trivial_augment_wide": asked}, v2.TrivialAugmentWide(31, mode)),
        (
            {"trivial_augment_wide": {**asked, "num_magnitude_bins": 5}},
            v2.TrivialAugmentWide(5, mode),
        ),
    ]
    for values, theirs in cases:
        for seed in range(12):
            assert torch.equal(apply(seed, **values), expected(seed, [theirs])), values


def test_the_default_filter_is_bilinear():
    for name, theirs in (
        ("auto_augment", v2.AutoAugment),
        ("rand_augment", v2.RandAugment),
        ("trivial_augment_wide", v2.TrivialAugmentWide),
    ):
        policy = theirs(interpolation=MODES["bilinear"])
        for seed in range(12):
            assert torch.equal(apply(seed, **{name: ON}), expected(seed, [policy]))


def test_two_policies_are_one_too_many():
    for one, other in (POLICIES[:2], POLICIES[1:], POLICIES[::2]):
        with pytest.raises(UserError) as error:
            TrainingTransform(section(**{one: ON, other: ON}))
        assert str(error.value) == (
            f"image_augmentation.{other}: it is a policy like {one}, which is enabled as well; "
            "switch one of them off"
        )


def test_the_strength_is_one_of_the_bins():
    assert RandAugmentOptions(magnitude=30).magnitude == 30
    with pytest.raises(ValidationError, match="magnitude: 31 is not below num_magnitude_bins = 31"):
        RandAugmentOptions(magnitude=31)


# --- order ---------------------------------------------------------------------------------------


def test_order_of_training():
    steps = (
        v2.RandomResizedCrop((24, 32), antialias=True),
        v2.RandomHorizontalFlip(0.5),
        v2.RandomRotation(10.0, MODES["bilinear"]),
        [v2.RandAugment(interpolation=MODES["bilinear"])],
        v2.ColorJitter(0.4, 0.4, 0.4, 0.0),
        v2.RandomApply([v2.GaussianNoise(sigma=0.05)], 0.5),
        v2.RandomErasing(0.5),
    )
    names = (
        *("random_erase", "random_resized_crop", "gaussian_noise", "rand_augment"),
        *("random_rotate", "color_jitter", "random_horizontal_flip"),
    )
    for seed in range(8):
        ours = apply(seed, **dict.fromkeys(names, ON))
        assert torch.equal(ours, expected(seed, *steps, image=as_tensor()))


def test_a_random_order_keeps_the_crop_first_and_erasing_last(monkeypatch):
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))
    TRANSFORMS.register("mine")(lambda options, *, size: lambda image: image)
    names = [name for name in ORDER if name not in POLICIES[1:]]

    def orders(**options):
        enabled = dict.fromkeys((*names, "mine"), ON)
        pipeline = TrainingTransform(section(**enabled, random_order=options))._pipeline
        steps = pipeline._steps.of((24, 32))
        return [[name for name, _ in pipeline._ordered(steps)] for _ in range(60)]

    torch.manual_seed(0)
    assert orders() == [[*names, "mine"]] * 60
    movable = [name for name in names if name in MIDDLE]
    drawn = orders(enable=True)
    for order in drawn:
        assert [order[0], *order[-2:]] == ["random_resized_crop", "random_erase", "mine"]
        assert sorted(order[1:-2]) == sorted(movable)
    for place in range(1, 4):
        assert {order[place] for order in drawn} == set(movable)
    halves = orders(enable=True, apply_k=0.5)
    assert {len(order) for order in halves} == {3 + round(len(movable) / 2)}
    assert set().union(*halves) == {*names, "mine"}
    assert torch.equal(apply(0, random_order=ON), resized())


# --- colours, noise, erasing ---------------------------------------------------------------------


def test_colours_are_torchvisions():
    for seed in range(6):
        assert torch.equal(
            apply(seed, color_jitter=ON), expected(seed, v2.ColorJitter(0.4, 0.4, 0.4, 0.0))
        )
        values = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.05}
        theirs = v2.ColorJitter(0.1, 0.2, 0.3, 0.05)
        assert torch.equal(apply(seed, color_jitter=ON | values), expected(seed, theirs))


def test_noise_has_its_deviation_and_probability():
    grey, key = np.full((200, 200, 3), 128, np.uint8), KEY._replace(height=200, width=200)
    noise = {**ON, "std": 0.08, "p": 1.0}
    values = apply(0, grey, key, gaussian_noise=noise).float()
    assert float(values.mean()) == pytest.approx(128, abs=0.3)
    assert float(values.std()) == pytest.approx(0.08 * 255, rel=0.02)
    pairs = np.corrcoef(values.reshape(3, -1).numpy())
    assert abs(pairs[np.triu_indices(3, 1)]).max() < 0.02  # every channel has its own
    noisy = [
        bool((apply(s, gaussian_noise={**noise, "p": 0.3}) != resized()).any()) for s in range(300)
    ]
    assert np.mean(noisy) == pytest.approx(0.3, abs=0.08)


def test_erasing_is_that_of_torchvision_on_the_scaled_image():
    """Officially it comes after the division by 255; black is black in both."""
    erased, bright = [], np.full_like(IMAGE, 255)
    for seed in range(300):
        ours = apply(seed, bright, random_erase={**ON, "p": 0.25})
        scaled = functional.resize(as_tensor(bright), [24, 32], antialias=True) / 255
        assert torch.equal(ours / 255, expected(seed, v2.RandomErasing(0.25), image=scaled))
        erased.append(float((ours == 0).float().mean()))
    hit = [share for share in erased if share]
    assert len(hit) / 300 == pytest.approx(0.25, abs=0.07)
    assert 0.01 < min(hit) < 0.06
    assert 0.25 < max(hit) < 0.36


@pytest.mark.parametrize("name", [*POLICIES, "random_erase"])
def test_tasks_with_boxes_or_masks_refuse_what_would_leave_these_behind(name):
    detect = DetectionTrainingTransform(section(**{name: ON}, ssd_crop={"enable": False}))
    message = rf"image_augmentation\.{name}: .* for classification only"
    with pytest.raises(UserError, match=message):
        detect(IMAGE, OBJECTS, KEY)
    segment = SegmentationTrainingTransform(section(**{name: ON}))
    mask = Segments(np.zeros((40, 60), np.uint8), Labels.of(["a", "b"], [0, 1]))
    with pytest.raises(UserError, match=message):
        segment(IMAGE, mask, KEY)


def test_detection_has_colours_and_noise_but_no_random_order():
    plain = {name: {"enable": False} for name in ("ssd_crop", "random_horizontal_flip")}
    plain["photo_metric_distort"] = {"enable": False}
    outs = []
    for values in ({}, {"color_jitter": ON, "gaussian_noise": {**ON, "p": 1.0}}):
        torch.manual_seed(0)
        outs.append(DetectionTrainingTransform(section(**plain, **values))(IMAGE, OBJECTS, KEY))
    assert not torch.equal(outs[0].image, outs[1].image)
    assert torch.equal(outs[0].target.boxes, outs[1].target.boxes)
    assert len(outs[1].target.boxes) == 1
    with pytest.raises(UserError, match="random_order: it is not for detection"):
        DetectionTrainingTransform(section(**plain, random_order=ON))(IMAGE, OBJECTS, KEY)


# --- filters that only PIL has -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["box", "hamming", "lanczos"])
def test_the_crop_knows_the_filters_of_pil(name):
    resample = Image.Resampling[name.upper()]
    theirs = np.asarray(Image.fromarray(IMAGE).resize((32, 24), resample))
    ours = apply(0, random_resized_crop={"interpolation": name})
    assert torch.equal(ours, as_tensor(theirs.copy()))
    crop = {**ON, "interpolation": name, "scale": (0.2, 0.5)}
    for seed in range(4):
        torch.manual_seed(seed)
        top, left, height, width = (
            v2.RandomResizedCrop((24, 32), (0.2, 0.5)).make_params([as_tensor()]).values()
        )
        part = Image.fromarray(IMAGE[top : top + height, left : left + width])
        theirs = np.asarray(part.resize((32, 24), resample))
        assert torch.equal(apply(seed, random_resized_crop=crop), as_tensor(theirs.copy()))


# --- timm ----------------------------------------------------------------------------------------

TIMM = {"rand_augment": {**ON, "use_timm_library": True, "timm_config_str": "rand-m7-n3-mstd0.5"}}


def test_timm_is_called_with_generators_that_follow_the_sample():
    timm = pytest.importorskip("timm.data.auto_augment")
    about = {"interpolation": Image.Resampling.BILINEAR}
    theirs = timm.rand_augment_transform("rand-m7-n3-mstd0.5", about)
    states = random.getstate(), np.random.get_state()[1].tolist()
    seen = [apply(seed, **TIMM) for seed in range(12)]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert len({image.numpy().tobytes() for image in seen}) > 8
    for seed, ours in enumerate(seen):
        torch.manual_seed(seed)
        start = int(torch.randint(2**32, ()))
        random.seed(start)
        np.random.seed(start)
        assert torch.equal(ours, expected(seed, [theirs]))
        assert torch.equal(ours, apply(seed, **TIMM))  # whatever their state was


def test_timm_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.data.auto_augment", None)
    with pytest.raises(UserError) as error:
        apply(0, **TIMM)
    assert str(error.value) == (
        "image_augmentation.rand_augment.use_timm_library: timm is not installed; pip install "
        "timm, or set it to false"
    )


@pytest.mark.parametrize("words", ["auto-m9", "rand-m9-q3", "rand-mx3"])
def test_words_that_timm_does_not_know(words):
    pytest.importorskip("timm.data.auto_augment")
    with pytest.raises(UserError, match=f"timm_config_str: timm does not understand '{words}'"):
        apply(0, rand_augment=TIMM["rand_augment"] | {"timm_config_str": words})
