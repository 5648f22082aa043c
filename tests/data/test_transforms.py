"""The training pipeline: order, randomness, what a user's transform may do, workers."""

import pickle
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info
from torchvision.transforms import v2

import data.transforms  # noqa: F401 - registers the transforms
from config.errors import UserError
from config.plugin_files import module_name
from config.plugins import load_plugins
from config.registry import compose
from data.datasets.classification.imagenet import ImageFolder
from data.kinds import TRANSFORMS, TransformOptions
from data.loader import Loader, Source
from data.sample import SampleKey
from data.sampler.plan import Size, plan_epoch
from data.transforms.classification import (
    ORDER,
    POLICIES,
    EvaluationTransform,
    TrainingTransform,
)
from data.transforms.section import ImageAugmentationSection

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
KEY = SampleKey(index=0, height=24, width=32, seed=5)


@pytest.fixture(autouse=True)
def own_transforms(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))


def transform(**section) -> TrainingTransform:
    return TrainingTransform(compose(ImageAugmentationSection, enabled=TRANSFORMS)(**section))


def apply(seed=5, **section) -> torch.Tensor:
    torch.manual_seed(seed)
    return transform(**section)(IMAGE, 0, KEY).image


def torchvision(*steps, seed=5) -> torch.Tensor:
    """The image after these transforms, which draw from torch's generator in their order."""
    image = torch.from_numpy(IMAGE).permute(2, 0, 1)
    torch.manual_seed(seed)
    for step in steps:
        image = step(image)
    return image


def register(name: str, change) -> None:
    """A transform without options of its own."""
    TRANSFORMS.register(name)(lambda options, *, size: change)


ON = {"enable": True}


@pytest.mark.parametrize("seed", range(4))
def test_crop_comes_before_flip_and_each_draws_what_torchvision_draws(seed):
    crop = {"enable": True, "scale": (0.3, 0.9), "interpolation": "bicubic"}
    expected = torchvision(
        v2.RandomResizedCrop(
            (24, 32), (0.3, 0.9), (3 / 4, 4 / 3), v2.InterpolationMode.BICUBIC, antialias=True
        ),
        v2.RandomHorizontalFlip(0.4),
        seed=seed,
    )
    ours = apply(seed, random_resized_crop=crop, random_horizontal_flip={**ON, "p": 0.4})
    assert torch.equal(ours, expected)


def test_without_a_crop_the_whole_image_is_resized_by_the_filter_of_the_crop():
    for name, mode in (
        ("bilinear", v2.InterpolationMode.BILINEAR),
        ("nearest", v2.InterpolationMode.NEAREST),
    ):
        expected = torchvision(v2.Resize((24, 32), mode, antialias=True))
        assert torch.equal(apply(random_resized_crop={"interpolation": name}), expected)


def test_the_users_transforms_come_behind_the_built_in_ones_by_name():
    seen = []

    def named(name):
        def change(image):
            seen.append((name, tuple(image.shape), image.dtype))
            return image

        return change

    for name in ("zebra", "ant", "mule"):
        register(name, named(name))
    built_in = [name for name in ORDER if name not in POLICIES[1:]]  # which exclude each other
    section = dict.fromkeys((*built_in, "zebra", "ant"), ON)
    apply(**section)
    assert seen == [("ant", (3, 24, 32), torch.uint8), ("zebra", (3, 24, 32), torch.uint8)]


def test_a_transform_is_off_by_default_and_built_once_per_size():
    built = []

    @TRANSFORMS.register("built")
    def make(options, *, size):
        built.append(size)
        return lambda image: image

    TRANSFORMS.register("idle")(lambda options, *, size: pytest.fail("it is not enabled"))
    train = transform(built=ON)
    for height in (24, 40, 24, 40):
        train(IMAGE, 0, KEY._replace(height=height))
    assert built == [(24, 32), (40, 32)]


@pytest.mark.parametrize(
    ("change", "given"),
    [
        (lambda image: image / 255, "torch.float32 [3, 24, 32]"),
        (lambda image: image[:, 1:], "torch.uint8 [3, 23, 32]"),
        (lambda image: image[:1], "torch.uint8 [1, 24, 32]"),
    ],
)
def test_a_transform_that_gives_something_else_is_named(change, given):
    """A float image in [0, 1] would become black without a word."""
    register("odd", change)
    with pytest.raises(UserError) as error:
        apply(odd=ON)
    assert str(error.value) == (
        f"image_augmentation.odd: the transform gave {given}; it has to give "
        "torch.uint8 [3, 24, 32]"
    )


def test_options_of_a_transform_can_be_enabled():
    from config.options import Options

    class Plain(Options):
        """Without enable."""

    with pytest.raises(UserError, match=r"transform 'plain': .* derived from data\.kinds\.Transf"):
        TRANSFORMS.register("plain", options=Plain)(lambda options, *, size: None)
    assert TRANSFORMS["random_resized_crop"].options.__mro__[1] is TransformOptions


@pytest.mark.parametrize("kind", [TrainingTransform, EvaluationTransform])
def test_transforms_of_a_recipe_can_be_sent_to_a_worker(kind):
    """The section's type is put together at run time, and a fresh process cannot find it."""
    section = compose(ImageAugmentationSection, enabled=TRANSFORMS)(
        random_resized_crop=ON, resize={**ON, "size": 30}, center_crop={**ON, "size": (20, 30)}
    )
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(section)
    images = []
    for made in (kind(section), pickle.loads(pickle.dumps(kind(section)))):
        torch.manual_seed(0)
        images.append(made(IMAGE, 0, KEY).image)
    assert torch.equal(*images)
    assert images[0].shape[1:] == ((24, 32) if kind is TrainingTransform else (20, 30))


PLUGIN = '''
import torch
from pydantic import Field
from data.kinds import TRANSFORMS, TransformOptions

class SpeckleOptions(TransformOptions):
    """Speckles."""
    colours: list[int] = Field([9, 200], description="grey values")

@TRANSFORMS.register("speckle", options=SpeckleOptions)
def speckle(options, *, size):
    """One pixel in ten gets a grey value."""
    def change(image):
        hit = torch.rand(size) < 0.1
        colour = options.colours[int(torch.randint(len(options.colours), ()))]
        return image.masked_fill(hit, colour)
    return change
'''


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_users_transform_gives_the_same_pixels_in_workers_and_processes(
    context, tmp_path, image_folder
):
    """Also where workers are started afresh: they find the user's file by what they are sent."""
    assert get_worker_info() is None
    (tmp_path / "speckle.py").write_text(PLUGIN)
    load_plugins(["speckle.py"], folder=tmp_path)
    section = {"random_resized_crop": ON, "speckle": {**ON, "colours": [1, 2, 250]}}
    source = Source(
        ImageFolder(None, root=str(image_folder / "train"), split="train"),
        transform(**section),
        torch.tensor,
        replace_bad=True,
    )
    plan = plan_epoch(
        seed=1, epoch=0, dataset_size=72, sizes=[Size(24, 24, 9), Size(16, 32, 9)], micro_batches=2
    )
    alone = list(Loader(source).training(plan))  # builds the pipelines; they must not travel
    assert any((batch.images == 250).all(1).float().mean() > 0.005 for batch in alone)
    workers = Loader(source, workers=1, context=context).training(plan)
    for mine, theirs in zip(alone, workers, strict=True):
        assert torch.equal(mine.images, theirs.images)
    ranks = [list(Loader(source, rank=r, world_size=2).training(plan)) for r in range(2)]
    by_ids = {batch.ids: batch for rank in ranks for batch in rank}
    assert len(by_ids) == len(alone)
    assert all(torch.equal(batch.images, by_ids[batch.ids].images) for batch in alone)
    del sys.modules[module_name(tmp_path / "speckle.py")]
