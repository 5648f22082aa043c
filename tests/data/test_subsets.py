"""Training on part of the images of each class."""

import itertools
from collections import Counter

import numpy as np
import pytest

from config.errors import RecipeError, UserError
from data.datasets.classification.subset import Subset, chosen
from data.datasets.section import DatasetSection
from engine.parts import build_task
from engine.reading import load_recipe, located

LABELS = np.array([2] * 7 + [0] * 4 + [9] + [2] * 3)


def indices(**options):
    return chosen(LABELS, DatasetSection(**options))


def counts(found):
    return dict(Counter(LABELS[found].tolist()))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"percentage_of_samples": 50}, {2: 5, 0: 2, 9: 1}),
        ({"percentage_of_samples": 25}, {2: 2, 0: 1, 9: 1}),
        ({"percentage_of_samples": 1}, {2: 1, 0: 1, 9: 1}),
        ({"percentage_of_samples": 100}, {2: 10, 0: 4, 9: 1}),
        ({"num_samples_per_category": 3}, {2: 3, 0: 3, 9: 1}),
        ({"num_samples_per_category": 99}, {2: 10, 0: 4, 9: 1}),
    ],
)
def test_counts_by_hand(options, expected):
    found = indices(**options)
    assert counts(found) == expected
    assert found.tolist() == sorted(set(found.tolist()))


def test_a_smaller_share_is_part_of_a_larger_one_and_seeds_differ():
    shares = [set(indices(percentage_of_samples=share).tolist()) for share in (10, 30, 60, 90)]
    assert all(small <= large for small, large in itertools.pairwise(shares))
    drawn = {
        tuple(indices(num_samples_per_category=3, sample_selection_random_seed=seed))
        for seed in range(20)
    }
    assert len(drawn) > 15
    assert (
        indices(num_samples_per_category=3).tolist() == indices(num_samples_per_category=3).tolist()
    )


def test_every_image_has_the_same_chance():
    seeds = range(3000)
    drawn = Counter(
        index
        for seed in seeds
        for index in indices(num_samples_per_category=2, sample_selection_random_seed=seed).tolist()
    )
    expected = len(seeds) * 2 / 10  # of the ten images of class 2
    for index in np.flatnonzero(LABELS == 2):
        assert abs(drawn[int(index)] - expected) < 5 * (expected * 0.8) ** 0.5


def test_only_training_is_cut_and_its_images_keep_their_names(image_folder):
    recipe = load_recipe(
        {
            "dataset.root_train": str(image_folder / "train"),
            "dataset.root_val": str(image_folder / "val"),
            "dataset.num_samples_per_category": 5,
        }
    )
    task = build_task(recipe)
    train, val = task.build_source("train").dataset, task.build_source("val").dataset
    assert (len(train), len(val)) == (15, 33)
    assert isinstance(train, Subset)
    assert train.classes == val.classes == ("across", "down", "slant")
    for index in range(15):
        image, label = train.load(index)
        assert train.classes[label] == train.describe(index).split("/")[-2]
        assert label == train.labels[index]
        assert image.tobytes() == train.dataset.load(int(train.indices[index]))[0].tobytes()


def test_both_ways_at_once_and_none_are_refused():
    with pytest.raises(RecipeError, match=r"num_samples_per_category: cannot be given together"):
        load_recipe({"dataset": {"num_samples_per_category": 3, "percentage_of_samples": 50}})
    with pytest.raises(RecipeError, match=r"0 images cannot be trained on; -1 means all"):
        load_recipe({"dataset.num_samples_per_category": 0})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dataset.percentage_of_samples", 10, "chosen by class"),
        ("dataset.num_samples_per_category", 10, "chosen by class"),
        ("sampler.class_balanced", True, "balanced"),
        ("dataset.download", True, "downloaded"),
    ],
)
def test_other_tasks_refuse_them_with_their_place(key, value, words, segmentation_recipe):
    recipe = load_recipe(segmentation_recipe | {key: value})
    with (
        pytest.raises(UserError, match=rf"python: {key}: only data of classification .* {words}"),
        located(recipe),
    ):
        build_task(recipe)


def test_a_data_set_of_ones_own_without_labels_is_told(image_folder, tmp_path):
    plugin = tmp_path / "bare.py"
    plugin.write_text(
        "from data.datasets.classification.imagenet import ImageFolder\n"
        "from data.kinds import CLASSIFICATION_DATASETS\n\n\n"
        '@CLASSIFICATION_DATASETS.register("bare_images")\n'
        "class Bare(ImageFolder):\n"
        '    """No labels."""\n\n'
        "    def __init__(self, *words, **context):\n"
        "        super().__init__(*words, **context)\n"
        "        del self.labels\n"
    )
    mapping = {
        "common.plugins": [str(plugin)],
        "dataset.name": "bare_images",
        "dataset.root_train": str(image_folder / "train"),
        "dataset.percentage_of_samples": 10,
    }
    with pytest.raises(UserError, match="bare_images has no array `labels`"):
        build_task(load_recipe(mapping)).build_source("train")
