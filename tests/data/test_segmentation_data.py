"""Data sets of segmentation: labels and their values, mask files, layouts, mistakes."""

import io
import pickle
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import data.transforms  # noqa: F401 - registers the transforms
from config.errors import UserError
from config.registry import NoOptions, compose
from data.datasets.segmentation.ade20k import ADE20K
from data.datasets.segmentation.image_mask import ImageMask, ImageMaskOptions
from data.datasets.segmentation.labels import IGNORE, Labels, voc_palette
from data.datasets.segmentation.masks import one_channel, read_mask
from data.datasets.segmentation.pascal import NAMES, Pascal, PascalOptions
from data.datasets.shapes import ADE20K_GROUND, CLASSES, generate
from data.images import ImageError
from data.kinds import TRANSFORMS
from data.loader import Loader, Source
from data.sampler.plan import Size, plan_epoch, plan_evaluation
from data.transforms.section import ImageAugmentationSection
from data.transforms.segmentation import (
    SegmentationEvaluationTransform,
    SegmentationTrainingTransform,
    collate,
)

VALUES = np.random.default_rng(0).integers(0, 4, (7, 9)).astype(np.uint8)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc") / "VOCdevkit"
    generate("voc", root, train=4, val=3, size=64)
    return root


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    root = tmp_path_factory.mktemp("ade") / "set"
    generate("ade20k", root, train=4, val=3, size=64)
    return root


def pascal(root, split="train", **options):
    return Pascal(PascalOptions(**options), root=None if root is None else str(root), split=split)


def own(root, split="train", **options):
    return ImageMask(ImageMaskOptions(**options), root=str(root), split=split)


def write_own(root, masks, split="train", suffix=".png", shape=(7, 9), first="{part}/{split}"):
    """An image for each mask, named a, b, c ..."""
    folders = [root / first.format(part=part, split=split) for part in ("images", "masks")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip("abcdef", masks, strict=False):
        Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(folders[0] / f"{name}.jpg")
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image.save(folders[1] / f"{name}{suffix}")
    return root


# --- values and classes --------------------------------------------------------------------------


def test_the_palette_of_voc():
    palette = voc_palette().tolist()
    known = {0: [0, 0, 0], 1: [128, 0, 0], 2: [0, 128, 0], 15: [192, 128, 128], 20: [0, 64, 128]}
    assert {n: palette[n] for n in known} == known
    assert palette[255] == [224, 224, 192]


def test_values_and_classes_are_inverse():
    labels = Labels(("x", "y", "z"), (9, 0, 200), (255, 4), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    raw = np.array([[9, 0], [200, 4], [255, 7]], np.uint8)
    assert labels.classes(raw).tolist() == [[0, 1], [2, IGNORE], [IGNORE, IGNORE]]
    assert labels.table.dtype == np.uint8
    assert labels.raw_of(labels.classes(raw)).tolist() == [[9, 0], [200, 255], [255, 255]]
    every = np.arange(255)
    most = Labels.of([str(n) for n in every], every.tolist(), ignored=())
    assert most.raw_of(most.classes(every.astype(np.uint8))).tolist() == every.tolist()
    assert most.raw_of(np.array([IGNORE], np.uint8)).tolist() == [255]
    yes_no = Labels.of(["no", "yes"], [0, 255])
    assert (yes_no.ignored, yes_no.raw_of(np.array([1, IGNORE], np.uint8)).tolist()) == (
        (),
        [255, 254],
    )


def test_undeclared_values_are_counted():
    labels = Labels.of(["a", "b", "c", "d"], range(4))
    raw = np.array([[0, 3, 255], [17, 17, 200]], np.uint8)
    labels.check(raw[:1], "x.png")
    with pytest.raises(UserError) as error:
        labels.check(raw, "x.png")
    assert str(error.value) == (
        "x.png: the mask has values that are neither a class nor ignored: 17 (2 pixels), 200 (1 "
        "pixels); classes are 0..3, ignored 255"
    )


@pytest.mark.parametrize(
    ("names", "raw", "ignored", "message"),
    [
        (["a"], [0, 1], (), "1 names of classes, 2 values"),
        ([], [], (), "0 classes"),
        (["a"] * 256, list(range(256)), (), "256 classes"),
        (["a", "b"], [0, 256], (), "256 is outside 0..255"),
        (["a", "b"], [3, 3], (), "3 occurs twice"),
        (["a", "b"], [3, 4], (4,), "4 occurs twice"),
    ],
)
def test_labels_that_cannot_be(names, raw, ignored, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Labels.of(names, raw, ignored)


# --- mask files ----------------------------------------------------------------------------------


def packed_png(values, bits) -> bytes:
    """A grey PNG of 1, 2 or 4 bits per pixel (PNG specification, sections 7.2 and 11.2)."""
    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in parts:
        out += struct.pack(">I", len(body)) + kind + body
        out += struct.pack(">I", zlib.crc32(kind + body))
    return out


def stored(image, form="PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def with_palette(values):
    image = Image.fromarray(values, "P")
    image.putpalette(voc_palette().tobytes())
    return image


GREY = Image.fromarray(VALUES)
FILES = {
    "grey": stored(GREY),
    "palette": stored(with_palette(VALUES)),
    "bmp": stored(GREY, "BMP"),
    "tiff": stored(GREY, "TIFF"),
    "16 bits": stored(Image.fromarray(VALUES.astype(np.uint16))),
    "4 bits": packed_png(VALUES, 4),
    "2 bits": packed_png(VALUES, 2),
    "grey and alpha": stored(Image.merge("LA", (GREY, GREY))),
    "grey as RGB": stored(Image.merge("RGB", (GREY,) * 3)),
    "grey as RGBA": stored(Image.merge("RGBA", (GREY,) * 4)),
}


@pytest.mark.parametrize("kind", FILES)
def test_masks_are_read_as_numbers(kind, tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(FILES[kind])
    mask = one_channel(read_mask(path), path)
    assert mask.dtype == np.uint8
    assert mask.flags.writeable  # torch warns of arrays that are not
    assert np.array_equal(mask, VALUES)


def test_a_mask_of_bits_is_zero_and_one(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(packed_png(VALUES % 2, 1))
    assert np.array_equal(read_mask(path), VALUES % 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the mask (No such file"),
        (b"", "cannot decode the mask"),
        (FILES["palette"][:-30], "cannot decode the mask"),
        (stored(GREY, "JPEG"), "cannot be a JPEG"),
        (stored(Image.fromarray(VALUES.astype(np.uint16) * 100)), "values of 0 to 300"),
    ],
)
def test_masks_that_cannot_be_read(content, message, tmp_path):
    path = tmp_path / "mask.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=re.escape(message)) as error:
        read_mask(path)
    assert str(path) in str(error.value)


# --- PASCAL VOC and ADE20K -----------------------------------------------------------------------


def test_voc(voc):
    for root in (voc, voc / "VOC2012"):
        train, val = pascal(root), pascal(root, "val")
        assert (len(train), len(val)) == (4, 3)
        assert train.report.lines() == [f"4 images of {voc / 'VOC2012/list/train_aug.txt'}"]
    assert train.labels.names == NAMES
    assert (len(NAMES), NAMES[0], NAMES[15], NAMES[20]) == (21, "background", "person", "tvmonitor")
    seen = set()
    for index in range(4):
        image, segments = pickle.loads(pickle.dumps(train)).load(index)
        name = train.names[index]
        assert train.describe(index).endswith(f"JPEGImages/{name}.jpg")
        palette_file = voc / "VOC2012/SegmentationClass" / f"{name}.png"
        assert np.array_equal(segments.raw, np.asarray(Image.open(palette_file)))
        assert image.shape == (*segments.raw.shape, 3)
        seen |= set(segments.raw.ravel().tolist())
    assert {0, 255} < seen <= {*range(len(CLASSES) + 1), 255}


def test_voc_of_the_original_release(voc, tmp_path):
    root = tmp_path / "VOC2012"
    root.mkdir()
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (root / name).symlink_to(voc / "VOC2012" / name)
    train = pascal(tmp_path)
    assert "original release" in train.report.lines()[1]
    for index, name in enumerate(pascal(voc).names):
        assert train.names[index] == name
        assert np.array_equal(train.load(index)[1].raw, pascal(voc).load(index)[1].raw)


def test_voc_with_images_of_coco(voc, tmp_path):
    pair = "/train/a b.jpg /masks/a.png\n"
    (tmp_path / "train_2017.txt").write_text(pair.replace("a b", "a"))
    for folder, form in (("train", "a.jpg"), ("masks", "a.png")):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 6), 20).save(tmp_path / folder / form)
    options = {"use_coco_data": True, "coco_root_dir": str(tmp_path)}
    train = pascal(voc, **options)
    assert len(train) == 5
    assert "1 images of COCO" in train.report.lines()[-1]
    assert (train.load(4)[1].raw == 20).all()
    assert len(pascal(voc, "val", **options)) == 3
    with pytest.raises(UserError, match=r"coco_root_dir: not given.*use_coco_data to false"):
        pascal(voc, use_coco_data=True)
    (tmp_path / "train_2017.txt").write_text(pair)
    with pytest.raises(UserError, match=r"train_2017.txt:1: '/train/a b.jpg /masks/a.png' is not"):
        pascal(voc, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "list/train_aug.txt").unlink(), "cannot read the list"),
        (lambda root: (root / "list/train_aug.txt").write_text("\n"), "is empty"),
        (
            lambda root: (root / "SegmentationClassAug/2007_000001.png").unlink(),
            "1 of 4 masks are missing, first ",
        ),
        (lambda root: (root / "JPEGImages/2007_000000.jpg").unlink(), "1 of 4 images are missing"),
    ],
)
def test_voc_with_something_missing(change, message, tmp_path):
    generate("voc", tmp_path / "set", train=4, val=1, size=48)
    change(tmp_path / "set" / "VOC2012")
    with pytest.raises(UserError, match=message) as error:
        pascal(tmp_path / "set")
    assert str(error.value).startswith("dataset.root_train: ")
    assert len(error.value.lines()) == 1
    for root in (None, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"dataset.root_train: no folder"):
            pascal(root)


def test_ade20k(ade):
    sets = [
        ADE20K(NoOptions(), root=str(root), split=split)
        for root in (ade, ade / "ADEChallengeData2016")
        for split in ("train", "val")
    ]
    assert [len(each) for each in sets] == [4, 3, 4, 3]
    train = sets[0]
    assert list(train.names) == sorted(train.names)
    names = train.labels.names
    # from the list of the challenge: first, last, and some between
    assert (len(names), len(set(names))) == (150, 150)
    known = {
        1: "wall",
        13: "person",
        45: "chest of drawers",
        90: "television",
        129: "lake",
        150: "flag",
    }
    assert {n: names[n - 1] for n in known} == known
    assert len(set(train.labels.colors)) == 150
    segments = train.load(2)[1]
    file = ade / "ADEChallengeData2016/annotations/training" / f"{train.names[2]}.png"
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(segments.raw, mask)
    assert 0 in mask
    classes = train.labels.classes(mask)
    assert np.array_equal(classes, mask - np.uint8(1))  # 0 becomes 255
    assert classes[mask > 0].max() < ADE20K_GROUND
    file.unlink()
    with pytest.raises(UserError, match="1 of 4 masks are missing"):
        ADE20K(NoOptions(), root=str(ade), split="train")


# --- one's own folders ---------------------------------------------------------------------------


def test_own_masks_of_every_kind(tmp_path):
    masks = [GREY, with_palette(VALUES), Image.merge("RGB", (GREY,) * 3)]
    write_own(tmp_path, masks)
    train = own(tmp_path, names=("w", "x", "y", "z"))
    assert list(train.names) == ["a", "b", "c"]
    for index in range(3):
        image, segments = train.load(index)
        assert image.shape == (7, 9, 3)
        assert np.array_equal(segments.labels.classes(segments.raw), VALUES)


def test_own_masks_of_other_values(tmp_path):
    write_own(tmp_path, [np.where(VALUES > 1, 255, 0).astype(np.uint8)])
    train = own(tmp_path, names=("no", "yes"), values=(0, 255))
    assert np.array_equal(train.labels.classes(train.load(0)[1].raw), VALUES > 1)
    write_own(tmp_path, [VALUES], "val")
    val = own(tmp_path, "val", names=("a", "b"), values=(3, 1), ignore_values=(0, 2))
    expected = np.array([IGNORE, 1, IGNORE, 0], np.uint8)[VALUES]
    assert np.array_equal(val.labels.classes(val.load(0)[1].raw), expected)
    with pytest.raises(UserError, match=r"masks/val/a\.png: .* 2 \(\d+ pixels\)"):
        own(tmp_path, "val", names=("a", "b", "c"), values=(3, 1, 0)).load(0)
    with pytest.raises(UserError, match=r"dataset\.image_mask: value 7 occurs twice"):
        own(tmp_path, names=("a", "b"), values=(7, 7))


COLOURS = np.array([[0, 0, 0], [0, 0, 255], [255, 0, 0], [1, 2, 3]], np.uint8)


def test_own_masks_in_colours(tmp_path):
    coloured = Image.fromarray(COLOURS[VALUES])
    with_alpha = coloured.convert("RGBA")
    with_alpha.putalpha(GREY)
    write_own(tmp_path, [coloured, with_alpha])
    colors = ((255, 0, 0), (0, 0, 0))
    options = {"names": ("red", "black"), "colors": colors}
    train = own(tmp_path, **options, ignore_colors=((0, 0, 255), (1, 2, 3)))
    for index in range(2):
        segments = train.load(index)[1]
        expected = np.array([1, IGNORE, 0, IGNORE], np.uint8)[VALUES]
        assert np.array_equal(segments.labels.classes(segments.raw), expected)
    assert train.labels.colors == colors
    share = f"{100 * (VALUES == 3).mean():.1f}"
    with pytest.raises(UserError, match=rf"nor ignored: \[1, 2, 3\] \({share} %\); add"):
        own(tmp_path, **options, ignore_colors=((0, 0, 255),)).load(0)
    with pytest.raises(UserError, match=r"the mask has colours; give dataset\.image_mask\.colors"):
        own(tmp_path, names=("red", "black")).load(0)
    write_own(tmp_path, [with_palette(VALUES)], "val")
    with pytest.raises(UserError, match="values, no colours"):
        own(tmp_path, "val", **options).load(0)


@pytest.mark.parametrize("first", ["{part}/{split}", "{split}/{part}", "{part}"])
def test_own_folders_may_be_nested_either_way(first, tmp_path):
    write_own(tmp_path, [VALUES, VALUES], first=first, suffix="_mask.png")
    options = {"names": tuple("wxyz"), "mask_suffix": "_mask.png"}
    assert list(own(tmp_path, **options).names) == ["a", "b"]
    if first != "{part}":
        write_own(tmp_path, [VALUES], "val", first=first, suffix="_mask.png")
        assert len(own(tmp_path, "test", **options)) == 1


def test_own_images_in_sub_folders(tmp_path):
    write_own(tmp_path, [VALUES], first="{part}/{split}/rome")
    write_own(tmp_path, [VALUES], first="{part}/{split}/oslo")
    assert list(own(tmp_path, names=tuple("wxyz")).names) == ["oslo/a", "rome/a"]


def test_without_names_the_values_are_listed(tmp_path):
    mask = np.zeros((10, 10), np.uint8)
    mask[:3], mask[3] = 7, 255
    write_own(tmp_path, [mask], shape=(10, 10))
    with pytest.raises(
        UserError, match=r"names: no class is named.*0 \(60.0 %\), 7 \(30.0 %\), 255 \(10.0 %\)"
    ):
        own(tmp_path)
    write_own(tmp_path, [COLOURS[VALUES]], "val")
    with pytest.raises(UserError, match=r"colours .*\[0, 0, 255\] .*image_mask.colors"):
        own(tmp_path, "val")


def test_own_files_without_partner(tmp_path):
    write_own(tmp_path, [VALUES] * 3)
    names = tuple("wxyz")
    (tmp_path / "masks/train/c.png").rename(tmp_path / "c.png")
    with pytest.raises(UserError, match=r"1 of 3 images have no mask, e.g. .*images/train/c.jpg"):
        own(tmp_path, names=names)
    (tmp_path / "c.png").rename(tmp_path / "masks/train/c.png")
    (tmp_path / "images/train/b.jpg").rename(tmp_path / "b.jpg")
    with pytest.raises(UserError, match=r"1 of 3 masks have no image, e.g. .*masks/train/b.png"):
        own(tmp_path, names=names)
    (tmp_path / "b.jpg").rename(tmp_path / "images/train/a.jpeg")
    with pytest.raises(UserError, match=r"a.jp.*would share a mask"):
        own(tmp_path, names=names)
    with pytest.raises(UserError, match=r"dataset.root_val: no folder of images; looked for"):
        own(tmp_path, "val", names=names)


def test_a_mask_of_another_size_is_a_bad_image(tmp_path):
    write_own(tmp_path, [VALUES.T.copy(), VALUES[:5]])
    train = own(tmp_path, names=tuple("wxyz"))
    with pytest.raises(ImageError, match=r"a.png: the mask has 9 x 7 .* has 7 x 9 \(turned"):
        train.load(0)
    with pytest.raises(ImageError, match=r"b.png: the mask has 5 x 9 .* has 7 x 9$"):
        train.load(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": ("a",), "values": (1, 2)}, "values: 2 given, but names has 1"),
        ({"names": ("a",), "values": (1,), "colors": ((0, 0, 0),)}, "of one kind"),
        ({"names": ("a",), "ignore_colors": ((0, 0, 0),)}, "ignore_colors: colors"),
        ({"names": ("a",), "colors": ((0, 0, 256),)}, "must be in 0..255"),
        ({"names": ("a", "b"), "colors": ((0, 0, 9), (0, 0, 9))}, "given twice"),
    ],
)
def test_own_options_that_contradict_each_other(values, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        ImageMaskOptions(**values)


# --- all together --------------------------------------------------------------------------------


def test_batches_of_several_sizes(voc):
    augment = compose(ImageAugmentationSection, enabled=TRANSFORMS)(random_rotate={"enable": True})
    train = Source(pascal(voc), SegmentationTrainingTransform(augment), collate, True)
    sizes = (Size(32, 48, 2), Size(64, 32, 2))
    plan = plan_epoch(seed=1, epoch=0, dataset_size=4, sizes=sizes, micro_batches=1)
    batches = list(Loader(train).training(plan))
    assert sum(map(len, batches)) == 4
    for batch in batches:
        assert batch.targets["mask"].shape == (len(batch), *batch.images.shape[2:])
        values = set(batch.targets["mask"].unique().tolist())
        assert values <= {*range(len(CLASSES) + 1), IGNORE}
    val = Source(pascal(voc, "val"), SegmentationEvaluationTransform(augment), collate, False)
    (batch,) = Loader(val).evaluation(plan_evaluation(3, Size(48, 48, 3)))
    assert batch.targets["mask"].shape == (3, 48, 48)
    assert [tuple(truth.shape) for truth in batch.targets["truth"]] == list(batch.sizes)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_are_refused_rather_than_cut_to_their_high_bytes(tmp_path, channels):
    values = np.repeat(np.arange(20, dtype=np.uint16).reshape(4, 5, 1), channels, axis=2)
    cv2.imwrite(str(tmp_path / "m.png"), values)
    with pytest.raises(ImageError, match="several channels of 16 bits"):
        read_mask(tmp_path / "m.png")


def test_a_mask_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "m.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(ImageError, match=r"m.png: cannot decode the mask .*1800"):
        read_mask(tmp_path / "m.png")


def test_a_list_in_another_encoding_is_named(tmp_path):
    generate("voc", tmp_path / "v", train=3, val=3, size=64)
    file = tmp_path / "v/VOC2012/list/val.txt"
    file.write_text(file.read_text(), encoding="utf-16")
    with pytest.raises(UserError, match=r"val.txt is no UTF-8 text; save it as such"):
        Pascal(PascalOptions(), root=str(tmp_path / "v"), split="val")
