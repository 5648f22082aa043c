"""From files to batches: decoding, transforms, the loader, and what happens to bad images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import data.datasets
import data.transforms  # noqa: F401 - registers the transforms
from config.errors import UserError
from config.registry import compose
from data.datasets.classification.imagenet import ImageFolder
from data.images import ImageError, read_image
from data.kinds import TRANSFORMS
from data.loader import Loader, Source
from data.sample import SampleKey
from data.sampler.plan import Size, num_samples, plan_epoch, plan_evaluation
from data.transforms.classification import EvaluationTransform, TrainingTransform
from data.transforms.section import ImageAugmentationSection

CROPPED = compose(ImageAugmentationSection, enabled=TRANSFORMS)(
    random_resized_crop={"enable": True},
    random_horizontal_flip={"enable": True},
    resize={"enable": True, "size": 36},
    center_crop={"enable": True, "size": 32},
)


def source(folder, training=True):
    transform = TrainingTransform if training else EvaluationTransform
    dataset = ImageFolder(None, root=str(folder), split="train")
    return Source(dataset, transform(CROPPED), torch.tensor, replace_bad=training)


def epoch_plan(size, batch=7, micro_batches=2):
    sizes = [Size(24, 24, batch), Size(32, 40, batch)]
    return plan_epoch(seed=0, epoch=0, dataset_size=size, sizes=sizes, micro_batches=micro_batches)


def test_decoding_equals_pil_within_the_rounding_of_jpeg(image_folder, tmp_path):
    path = next((image_folder / "train/across").glob("*.jpg"))
    ours = read_image(path).astype(int)
    pil = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert ours.shape == pil.shape
    assert np.abs(ours - pil).max() <= 3
    exact = tmp_path / "exact.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(exact)
    assert np.array_equal(read_image(exact), pixels)


def test_grey_palette_and_alpha_images_become_rgb_and_orientation_is_ignored(tmp_path):
    Image.new("L", (5, 4), 77).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").tolist() == [[[77] * 3] * 5] * 4
    Image.new("RGBA", (5, 4), (1, 2, 3, 255)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png")[0, 0].tolist() == [1, 2, 3]
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter turn
    Image.new("RGB", (10, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (4, 10, 3)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
@pytest.mark.parametrize("form", ["jpg", "png"])
def test_truncated_files_are_errors_that_name_the_file(tmp_path, kept, form):
    path = tmp_path / f"cut.{form}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=f"cut.{form}: "):
        read_image(path)


def test_a_jpeg_with_a_thumbnail_is_whole_or_truncated(tmp_path):
    """The end marker of the embedded thumbnail must not pass for that of the image."""
    thumbnail = tmp_path / "small.jpg"
    Image.new("RGB", (8, 8)).save(thumbnail)
    path = tmp_path / "large.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=b"Exif\0\0" + thumbnail.read_bytes())
    content = path.read_bytes()
    assert content.count(b"\xff\xd9") == 2
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(content[:-700])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def test_image_folder_lists_classes_and_files_in_order(image_folder):
    dataset = ImageFolder(None, root=str(image_folder / "val"), split="val")
    assert dataset.classes == ("across", "down", "slant")
    assert len(dataset) == 33
    assert dataset.describe(12).endswith("down/001.jpg")
    image, label = dataset.load(12)
    assert (image.shape, label) == ((48, 48, 3), 1)


def test_training_transform_is_torchvisions_on_the_same_draws(image_folder):
    loader = Loader(source(image_folder / "train"))
    plan = epoch_plan(72)
    batch = next(loader.training(plan))
    key = plan.keys(plan.steps[0][0])[0]
    torch.manual_seed(key.seed)
    image = v2.functional.pil_to_tensor(Image.open(loader.source.dataset.describe(key.index)))
    peer = v2.Compose(
        [v2.RandomResizedCrop((key.height, key.width), antialias=True), v2.RandomHorizontalFlip()]
    )
    # JPEG decoders differ by a few grey values
    assert (batch.images[0].int() - peer(image).int()).abs().max() <= 6


def test_evaluation_transform_is_resize_and_centre_crop_of_pil(image_folder):
    path = image_folder / "val/slant/003.jpg"
    key = SampleKey(0, 32, 32, 0)
    ours = EvaluationTransform(CROPPED)(read_image(path), 0, key).image.int()
    pil = v2.functional.center_crop(v2.functional.resize(Image.open(path), [36]), [32, 32])
    assert (ours - v2.functional.pil_to_tensor(pil).int()).abs().max() <= 6
    plain = EvaluationTransform(ImageAugmentationSection())(read_image(path), 0, key)
    assert plain.image.shape == (3, 32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_uint8_channels_last_and_complete(image_folder, workers):
    loader = Loader(source(image_folder / "train"), workers=workers)
    plan = epoch_plan(72)
    batches = list(loader.training(plan))
    assert sorted(i for batch in batches for i in batch.ids) == list(range(72))
    for batch, micro in zip(batches, [m for step in plan.steps for m in step], strict=True):
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (micro.images, 3, micro.height, micro.width)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets.tolist() == [i // 24 for i in batch.ids]
        assert set(batch.sizes) == {(48, 48)}


def test_workers_processes_and_start_methods_give_the_same_pixels(image_folder):
    plan = epoch_plan(72)
    expected = list(Loader(source(image_folder / "train")).training(plan))
    spawned = Loader(source(image_folder / "train"), workers=1, context="spawn")
    for mine, theirs in zip(expected, spawned.training(plan), strict=True):
        assert torch.equal(mine.images, theirs.images)
    dealt = [
        list(Loader(source(image_folder / "train"), rank=r, world_size=3).training(plan, start=1))
        for r in range(3)
    ]
    by_ids = {batch.ids: batch for rank in dealt for batch in rank}
    left = [batch for batch in expected if batch.ids in by_ids]
    assert len(left) == len(by_ids) == sum(len(step) for step in plan.steps[1:])
    assert all(torch.equal(batch.images, by_ids[batch.ids].images) for batch in left)


def test_evaluation_shards_are_whole_batches_and_disjoint(image_folder):
    plan = plan_evaluation(33, Size(32, 32, 4))
    shards = [
        [
            b.ids
            for b in Loader(source(image_folder / "val", False), rank=r, world_size=2).evaluation(
                plan
            )
        ]
        for r in range(2)
    ]
    assert sorted(i for shard in shards for ids in shard for i in ids) == list(range(33))
    assert {len(ids) for shard in shards for ids in shard} == {4, 1}


@pytest.fixture
def damaged_folder(image_folder, tmp_path):
    import shutil

    root = tmp_path / "damaged"
    shutil.copytree(image_folder / "train", root)
    for name in ("across/002.jpg", "slant/005.jpg"):
        (root / name).write_bytes((root / name).read_bytes()[:200])
    return root


def test_bad_images_are_replaced_deterministically_and_named_in_training(damaged_folder):
    plan = epoch_plan(72)
    first = list(Loader(source(damaged_folder)).training(plan))
    second = list(Loader(source(damaged_folder), workers=2).training(plan))
    replaced = [r for batch in first for r in batch.replaced]
    assert sorted(r.index for r in replaced) == [2, 24 * 2 + 5]
    assert all("truncated JPEG" in r.reason and ".jpg" in r.reason for r in replaced)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    for batch in first:
        for r in batch.replaced:
            assert batch.targets[batch.ids.index(r.index)] == r.by // 24


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_are_errors_in_evaluation(damaged_folder, workers):
    loader = Loader(source(damaged_folder, training=False), workers=workers)
    with pytest.raises(UserError) as caught:
        list(loader.evaluation(plan_evaluation(72, Size(32, 32, 8))))
    assert caught.value.lines() == [
        f"{damaged_folder}/across/002.jpg: a truncated JPEG; repair or remove it"
    ]


def test_a_step_has_one_size_and_all_its_samples(image_folder):
    plan = epoch_plan(72, batch=5, micro_batches=3)
    loader = Loader(source(image_folder / "train"), workers=0)
    shapes = [b.images.shape[2:] for b in loader.training(plan)]
    assert len(shapes) == sum(len(step) for step in plan.steps)
    assert sum(num_samples(step) for step in plan.steps) == 72
