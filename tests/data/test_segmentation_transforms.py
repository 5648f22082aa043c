"""Transforms of segmentation: labels stay on their pixels, draws are as described, batches fit."""

import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision import tv_tensors
from torchvision.transforms import v2

import data.transforms  # noqa: F401 - registers the transforms
from config.errors import UserError
from config.registry import compose
from data.datasets.segmentation.labels import IGNORE, Labels
from data.datasets.segmentation.pascal import LABELS as VOC
from data.datasets.segmentation.segments import Segments
from data.kinds import TRANSFORMS
from data.sample import SampleKey
from data.transforms.classification import TrainingTransform
from data.transforms.detection import DetectionTrainingTransform
from data.transforms.masks import resize_mask
from data.transforms.photometric import RandomGaussianNoiseOptions, random_gaussian_noise
from data.transforms.random_crop import RandomCrop, RandomCropOptions
from data.transforms.section import ImageAugmentationSection
from data.transforms.segmentation import (
    SegmentationEvaluationTransform,
    SegmentationTrainingTransform,
    SizeRule,
    collate,
)
from data.transforms.short_side import (
    RandomResize,
    RandomResizeOptions,
    RandomShortSizeResize,
    RandomShortSizeResizeOptions,
)

ON, OFF = {"enable": True}, {"enable": False}
PLAIN = {"random_short_size_resize": OFF, "random_horizontal_flip": OFF, "random_crop": OFF}
HEIGHT, WIDTH = 120, 160
KEY = SampleKey(index=0, height=64, width=96, seed=5)
TEN = Labels.of([f"class {n}" for n in range(10)], range(10))
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
BLOCKS = (
    np.random.default_rng(1).integers(0, 10, (3, 4)).astype(np.uint8).repeat(40, 0).repeat(40, 1)
)


@pytest.fixture(autouse=True)
def own_transforms(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))


def section(**values) -> ImageAugmentationSection:
    return compose(ImageAugmentationSection, enabled=TRANSFORMS)(**values)


def train(raw=BLOCKS, image=NOISE, seed=5, key=KEY, labels=TEN, **values):
    torch.manual_seed(seed)
    return SegmentationTrainingTransform(section(**values))(image, Segments(raw, labels), key)


def evaluate(image, raw, rule, key=KEY, labels=TEN, **values):
    transform = SegmentationEvaluationTransform(section(**values), rule)
    return transform(image, Segments(raw, labels), key)


def painted(raw) -> np.ndarray:
    """An image whose pixels show their labels."""
    return np.stack([raw * 25, 255 - raw * 25, (raw * 77) % 200], -1).astype(np.uint8)


def both(raw):
    return tv_tensors.Image(torch.zeros(3, *raw.shape).byte()), tv_tensors.Mask(torch.tensor(raw))


# --- labels stay on their pixels -----------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(32, 160), st.integers(32, 160)),
    pads=st.booleans(),
    first=st.sampled_from(["short side", "ratio", "none"]),
)
def test_every_pixel_shows_its_label_after_all_transforms(seed, size, pads, first):
    values = {
        "random_short_size_resize": {
            "short_side_min": 50,
            "short_side_max": 150,
            "interpolation": "bilinear",  # bicubic overshoots
        },
        "random_crop": {"pad_if_needed": pads, "seg_class_max_ratio": 0.75},
        "random_rotate": ON,
        "random_order": ON,
    }
    if first != "short side":
        values["random_short_size_resize"] = OFF
        values["random_resize"] = ON if first == "ratio" else OFF
    sample = train(BLOCKS, painted(BLOCKS), seed, SampleKey(0, *size, 0), **values)
    mask = sample.target.mask
    assert (sample.image.shape, sample.image.dtype) == ((3, *size), torch.uint8)
    assert (mask.shape, mask.dtype) == (size, torch.uint8)
    assert type(sample.image) is type(mask) is torch.Tensor
    assert sample.target.truth is None
    assert sample.size == (HEIGHT, WIDTH)
    labels, image = mask.numpy(), sample.image.permute(1, 2, 0).numpy().astype(int)
    # well inside of a block, where no filter mixes colours
    inner = cv2.erode(labels, np.ones((13, 13))) == cv2.dilate(labels, np.ones((13, 13)))
    inner[:6] = inner[-6:] = inner[:, :6] = inner[:, -6:] = False
    shown = inner & (labels != IGNORE)
    assert np.abs(image[shown] - painted(labels)[shown]).max(initial=0) <= 4
    assert image[inner & (labels == IGNORE)].max(initial=0) == 0  # filled up


def test_a_mask_moves_by_no_part_of_a_pixel():
    ramp = np.tile(np.arange(192, dtype=np.uint8), (96, 1))
    image = np.repeat(ramp[..., None], 3, -1)
    for height, width in ((32, 64), (160, 320)):  # a third, five thirds
        key = SampleKey(0, height, width, 0)
        labels = Labels.of([str(n) for n in range(192)], range(192))
        sample = train(ramp, image, key=key, labels=labels, **PLAIN)
        error = sample.target.mask.int() - sample.image[0].int()
        assert error.abs().max() <= 1
        assert abs(float(error.double().mean())) < 0.05


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_rotated_corners_and_fills_are_as_the_recipe_says(seed):
    raw = np.full((80, 80), 4, np.uint8)
    key = SampleKey(0, 80, 80, 0)
    for fill, expected in ((255, IGNORE), (2, 2)):
        rotate = {"enable": True, "angle": 45, "mask_fill": fill}
        sample = train(raw, NOISE[:80, :80], seed, key, random_rotate=rotate, **PLAIN)
        assert set(sample.target.mask.unique().tolist()) <= {4, expected}
        assert sample.target.mask[40, 40] == 4
    angled = [train(raw, NOISE[:80, :80], s, key, random_rotate=rotate, **PLAIN) for s in range(9)]
    assert any((sample.target.mask == 2).any() for sample in angled)


def test_flipping_takes_the_mask_along():
    key = KEY._replace(height=HEIGHT, width=WIDTH)
    values = {**PLAIN, "random_horizontal_flip": {"p": 1.0}}
    sample = train(key=key, **values)
    assert np.array_equal(sample.image.permute(1, 2, 0), NOISE[:, ::-1])
    assert np.array_equal(sample.target.mask, BLOCKS[:, ::-1])


def test_values_become_classes_and_those_that_are_none_are_ignored():
    labels = Labels.of(["a", "b"], [7, 3], ignored=[0])
    raw = np.array([[7, 3], [0, 3]], np.uint8).repeat(20, 0).repeat(20, 1)
    key = SampleKey(0, 40, 40, 0)
    sample = train(raw, NOISE[:40, :40], key=key, labels=labels, **PLAIN)
    assert sample.target.mask[::20, ::20].tolist() == [[0, 1], [IGNORE, 1]]


def test_255_may_be_a_class_and_filled_up_pixels_are_still_none():
    labels = Labels.of(["no", "yes"], [0, 255])
    raw = np.full((40, 40), 255, np.uint8)
    raw[:20] = 0
    pads = {**PLAIN, "random_crop": {"pad_if_needed": True}}
    for fill, expected in ((255, IGNORE), (254, IGNORE), (0, 0)):
        pads["random_crop"]["mask_fill"] = fill
        mask = train(raw, NOISE[:40, :40], labels=labels, **pads).target.mask
        assert mask[:20, :40].unique().tolist() == [0]
        assert mask[20:40, :40].unique().tolist() == [1]
        assert mask[:, 40:].unique().tolist() == [expected]


# --- sizes ---------------------------------------------------------------------------------------


def test_short_sides_are_uniform_and_long_sides_have_a_limit():
    options = RandomShortSizeResizeOptions(short_side_min=10, short_side_max=13, max_img_dim=16)
    resize, sizes = RandomShortSizeResize(options, size=(1, 1)), []
    torch.manual_seed(0)
    for _ in range(400):
        image, mask = resize(*both(np.zeros((30, 40), np.uint8)))
        assert image.shape[1:] == mask.shape
        sizes.append(tuple(mask.shape))
    # 13 x 17.3 would be too long: it shrinks to the limit
    assert set(sizes) == {(10, 13), (11, 15), (12, 16)}
    assert sizes.count((12, 16)) == pytest.approx(200, abs=45)
    assert sizes.count((10, 13)) == pytest.approx(100, abs=40)


def test_the_first_release_draws_a_short_side_and_main_a_ratio():
    torch.manual_seed(0)
    raw = np.zeros((30, 40), np.uint8)
    old = RandomResize(RandomResizeOptions(min_size=6, max_size=9), size=(1, 1))
    assert {min(old(*both(raw))[1].shape) for _ in range(60)} == {6, 7, 8, 9}
    new = RandomResize(RandomResizeOptions(max_scale_long_edge=48), size=(1, 1))
    shapes = [tuple(new(*both(raw))[1].shape) for _ in range(200)]
    assert min(shapes)[0] in (15, 16)
    assert max(shapes) == (36, 48)
    assert all(abs(w / h - 4 / 3) < 0.07 for h, w in shapes)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (64, 20), (10, 10), (63, 95)])
def test_small_images_are_filled_up_or_enlarged(shape):
    raw = np.full(shape, 3, np.uint8)
    image = np.full((*shape, 3), 200, np.uint8)
    values = {**PLAIN, "random_crop": {"pad_if_needed": True}}
    padded = train(raw, image, **values)
    rows, columns = min(shape[0], 64), min(shape[1], 96)
    assert (padded.target.mask[:rows, :columns] == 3).all()
    assert (padded.target.mask == 3).sum() == rows * columns
    assert (padded.target.mask == IGNORE).sum() == 64 * 96 - rows * columns
    assert ((padded.image == 200).all(0) == (padded.target.mask == 3)).all()
    enlarged = train(raw, image, **{**PLAIN, "random_crop": {"resize_if_needed": True}})
    assert (enlarged.target.mask == 3).all()
    assert (enlarged.image == 200).all()


def test_a_crop_of_one_class_is_drawn_again():
    raw = np.zeros((100, 100), np.uint8)
    raw[:, 90:] = 1
    raw[:, :50] = IGNORE
    torch.manual_seed(0)
    shares = {}
    for limit in (None, 0.9):
        crop = RandomCrop(RandomCropOptions(seg_class_max_ratio=limit), size=(40, 40))
        cuts = [crop(*both(raw))[1] for _ in range(300)]
        mixed = 0
        for cut in cuts:
            zeros, ones = int((cut == 0).sum()), int((cut == 1).sum())
            mixed += ones > 0 and zeros > 0 and max(zeros, ones) / (zeros + ones) < 0.9
        shares[limit] = mixed / 300
    # by hand: columns 0..60, mixed from 51 (a column of ones) on but for ratios of 0.9 and more
    left = [x for x in range(61) if x + 40 > 90 and (90 - max(x, 50)) / (x + 40 - max(x, 50)) < 0.9]
    once = len(left) / 61
    assert shares[None] == pytest.approx(once, abs=0.08)
    assert shares[0.9] == pytest.approx(1 - (1 - once) ** 10, abs=0.06)


def test_crops_reach_every_corner():
    crop = RandomCrop(RandomCropOptions(), size=(4, 4))
    raw = np.arange(36, dtype=np.uint8).reshape(6, 6)
    torch.manual_seed(0)
    corners = [int(crop(*both(raw))[1][0, 0]) for _ in range(400)]
    assert set(corners) == {0, 1, 2, 6, 7, 8, 12, 13, 14}
    assert min(map(corners.count, set(corners))) > 20


# --- which transforms, and in which order --------------------------------------------------------


def spy(monkeypatch, record):
    """Every transform of the pipeline writes its name down and does nothing."""
    for name in TRANSFORMS.names():

        def build(options, *, size, name=name):
            return lambda image, mask: (record.append(name), (image, mask))[1]

        entry = TRANSFORMS._entries[name]
        monkeypatch.setitem(
            TRANSFORMS._entries, name, type(entry)(**{**vars(entry), "component": build})
        )


ALL = dict.fromkeys(("random_gaussian_noise", "photo_metric_distort", "random_rotate"), ON)


def test_what_is_on_and_in_which_order(monkeypatch):
    record = []
    spy(monkeypatch, record)
    train()
    usual = ["random_short_size_resize", "random_horizontal_flip", "random_crop"]
    assert record == usual
    record.clear()
    train(**ALL)
    assert record == [*usual, "random_gaussian_noise", "photo_metric_distort", "random_rotate"]
    record.clear()
    train(**PLAIN)
    assert record == []
    train(random_resize=ON)
    assert record == ["random_resize", *usual[1:]]


def test_a_random_order_keeps_the_first_and_the_crop(monkeypatch):
    record = []
    spy(monkeypatch, record)
    seen = set()
    for seed in range(60):
        record.clear()
        train(seed=seed, random_order={"enable": True, "apply_k": 0.5}, **ALL)
        assert record[0] == "random_short_size_resize"
        assert "random_crop" in record
        assert len(record) == 2 + 2  # half of the other four
        seen.add(tuple(record))
    assert 20 < len(seen) <= 36  # 4 * 3 for the two, 3 places for the crop
    record.clear()
    train(random_order=ON, **ALL)
    assert len(record) == 6


def test_the_same_seed_gives_the_same_sample_and_only_torch_is_asked():
    values = {**ALL, "random_order": ON}
    for seed in range(4):
        np.random.seed(seed)
        one, other = train(seed=seed, **values), train(seed=seed, **values)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.target.mask, other.target.mask)
    assert len({train(seed=seed).target.mask.numpy().tobytes() for seed in range(4)}) > 1


def test_colours_and_blur_leave_the_mask_alone():
    key = KEY._replace(height=HEIGHT, width=WIDTH)
    colours = {"enable": True, "p": 1.0}
    for name in ("photo_metric_distort", "random_gaussian_noise"):
        samples = [train(seed=seed, key=key, **{**PLAIN, name: colours}) for seed in range(6)]
        assert all(np.array_equal(sample.target.mask, BLOCKS) for sample in samples)
        changed = [not np.array_equal(s.image.permute(1, 2, 0), NOISE) for s in samples]
        assert sum(changed) >= 4


def test_the_blur_is_a_gaussian_of_at_most_a_pixel():
    edge = torch.zeros(3, 20, 30, dtype=torch.uint8)
    edge[:, :, 15:] = 255
    torch.manual_seed(0)
    transform = random_gaussian_noise(RandomGaussianNoiseOptions(p=1.0), size=(20, 30))
    places = torch.arange(-14.0, 15)
    spreads = []
    for _ in range(60):
        blurred = transform(tv_tensors.Image(edge))
        assert (blurred == blurred[:1, :1]).all()  # the same in all rows and channels
        density = blurred[0, 0].float().diff() / 255  # of an edge: the filter
        spreads.append(float((density * places**2).sum()) ** 0.5)
    assert min(spreads) < 0.2
    assert 0.85 < max(spreads) < 1.05


# --- the user's own, and mistakes ----------------------------------------------------------------


def register(name, change) -> None:
    TRANSFORMS.register(name)(lambda options, *, size: change)


def test_transforms_of_the_user_get_image_and_classes():
    seen = []

    class Look(v2.Transform):
        def forward(self, image, mask):
            seen.extend([type(image), type(mask), set(mask.unique().tolist())])
            return image, mask

    register("look", Look())
    register("negative", lambda image: 255 - image)
    raw = np.full((HEIGHT, WIDTH), 9, np.uint8)
    labels = Labels.of(["a"], [9])
    plain = train(raw, labels=labels, **PLAIN)
    sample = train(raw, labels=labels, look=ON, negative=ON, **PLAIN)
    assert seen == [tv_tensors.Image, tv_tensors.Mask, {0}]
    assert torch.equal(sample.image, 255 - plain.image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (v2.RandomCrop(8), "gave torch.uint8 [3, 8, 8]|made torch.uint8 [8, 8] of the mask"),
        (v2.ToDtype({tv_tensors.Mask: torch.int64, "others": None}), "made torch.int64 [64, 96]"),
        (
            v2.RandomAffine((45, 45), fill={tv_tensors.Mask: 77, "others": 0}),
            "put 77 into the mask",
        ),
    ],
)
def test_transforms_of_the_user_that_spoil_a_mask_are_named(change, message):
    register("mine", change)
    with pytest.raises(UserError, match=r"image_augmentation\.mine") as error:
        train(mine=ON, **PLAIN)
    assert any(part in str(error.value) for part in message.split("|"))


def test_what_excludes_each_other_or_belongs_elsewhere_is_refused():
    for values, word in (
        ({"random_resize": ON, "random_short_size_resize": ON}, "takes the place"),
        ({"random_resized_crop": ON}, "random_resized_crop"),
        ({"ssd_crop": ON}, "ssd_crop"),
    ):
        with pytest.raises(UserError, match=word):
            train(**values)
    with pytest.raises(UserError, match="center_crop"):
        SegmentationEvaluationTransform(section(center_crop=ON))


@pytest.mark.parametrize("name", ["random_crop", "random_resize", "random_short_size_resize"])
def test_other_tasks_refuse_what_needs_a_mask(name):
    with pytest.raises(UserError, match=f"{name}.*segmentation only"):
        TrainingTransform(section(**{name: ON}))(NOISE, 0, KEY)


def test_other_tasks_do_not_crop_unless_told_to():
    plain = section()
    assert not TrainingTransform(plain)._pipeline._steps._parts[1:]
    names = [name for name, *_ in DetectionTrainingTransform(plain)._before._parts]
    assert names == ["ssd_crop", "photo_metric_distort", "random_horizontal_flip"]


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (RandomCropOptions, {"pad_if_needed": True, "resize_if_needed": True}, "choose one"),
        (RandomCropOptions, {"mask_fill": 256}, "less than or equal to 255"),
        (RandomResizeOptions, {"min_size": 3}, "max_size as well"),
        (RandomResizeOptions, {"min_size": 3, "max_size": 2}, "min_size: 3 is above max_size = 2"),
        (RandomResizeOptions, {"min_ratio": 3.0}, "min_ratio: 3 is above max_ratio = 2"),
        (RandomShortSizeResizeOptions, {"short_side_min": 800}, "800 is above"),
    ],
)
def test_options_out_of_range(options, values, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        options(**values)


# --- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (SizeRule("fixed"), {}, (64, 96)),
        (SizeRule("fixed"), {"resize": {"enable": True, "size": (50, 70)}}, (50, 70)),
        (SizeRule("fixed"), {"resize": {"enable": True, "size": 48}}, (48, 48)),
        (SizeRule("short_side"), {}, (64, 85)),
        (SizeRule("own", 32), {}, (96, 160)),
        (SizeRule("own", 16), {}, (112, 160)),
        (SizeRule("own", 256), {}, (256, 256)),
    ],
)
def test_sizes_of_evaluation(rule, values, expected):
    raw = np.where(BLOCKS == 3, 255, BLOCKS).astype(np.uint8)
    sample = evaluate(NOISE, raw, rule, **values)
    assert sample.image.shape == (3, *expected)
    assert sample.size == (HEIGHT, WIDTH)
    assert np.array_equal(sample.target.truth, raw)
    rows = ((np.arange(expected[0]) + 0.5) * HEIGHT / expected[0]).astype(int)
    columns = ((np.arange(expected[1]) + 0.5) * WIDTH / expected[1]).astype(int)
    assert (sample.target.mask.numpy() == raw[rows][:, columns]).mean() > 0.99  # rounding in ties


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2, 500), (64, 16_000)),
        ((2, 512), (64, 16_384)),
        ((2, 513), (64, 16_384)),  # 16,416 is too long
        ((2, 2048), (16, 16_384)),
        ((2048, 2), (16_384, 16)),
        ((1, 40_000), (1, 16_384)),
    ],
)
def test_a_long_image_gets_no_longer_than_the_limit(size, expected):
    image, raw = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    sample = evaluate(image, raw, SizeRule("short_side"))
    assert sample.image.shape == (3, *expected)
    assert sample.target.truth.shape == size


def test_truth_is_in_classes_and_batches_hold_masks_of_bytes():
    labels = Labels.of(["a", "b"], [1, 2], ignored=[0])
    raw = np.array([[0, 1], [2, 2]], np.uint8).repeat(50, 0).repeat(30, 1)
    sample = evaluate(NOISE[:100, :60], raw, SizeRule("fixed"), labels=labels)
    assert sample.target.truth[::50, ::30].tolist() == [[IGNORE, 0], [1, 1]]
    other = evaluate(NOISE[:30, :50], raw[:30, :50], SizeRule("fixed"), labels=labels)
    batch = collate([sample.target, other.target])
    assert (batch["mask"].shape, batch["mask"].dtype) == ((2, 64, 96), torch.uint8)
    assert [tuple(truth.shape) for truth in batch["truth"]] == [(100, 60), (30, 50)]
    assert set(collate([train().target])) == {"mask"}


def test_resized_masks_hold_only_their_own_values():
    mask = resize_mask(torch.tensor([[0, 255], [7, 3]], dtype=torch.uint8), 5, 4)
    assert mask.dtype == torch.uint8
    assert mask.unique().tolist() == [0, 3, 7, 255]


def test_transforms_travel_to_workers():
    augment = section(random_rotate=ON, random_order=ON)
    for transform in (
        SegmentationTrainingTransform(augment),
        SegmentationEvaluationTransform(augment, SizeRule("own", 16)),
    ):
        copy = pickle.loads(pickle.dumps(transform))
        torch.manual_seed(1)
        one = transform(NOISE, Segments(BLOCKS, VOC), KEY)
        torch.manual_seed(1)
        other = copy(NOISE, pickle.loads(pickle.dumps(Segments(BLOCKS, VOC))), KEY)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.target.mask, other.target.mask)
