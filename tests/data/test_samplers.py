"""Chains of samplers, classes that come equally often, and the batches of release 0.1."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.sampler  # noqa: F401 - registers the samplers
from config.errors import RecipeError, UserError
from data.kinds import SAMPLERS
from data.sampler.multi_scale import make_divisible
from data.sampler.order import balanced
from data.sampler.plan import RunPlan, Size, joined, num_samples, plan_epoch
from data.sampler.variable_batch import VariableBatchOptions, VariableBatchSampler
from engine.effects import without_effect
from engine.parts import build_task
from engine.reading import load_recipe, located
from engine.resolved import flat, resolved_yaml
from engine.training import Assembly

TRACES = Path(__file__).parent.parent / "reference" / "traces"
CHAIN = {
    "sampler": {
        "name": "chain_sampler",
        "chain_sampler": [
            {
                "task_name": "classification",
                "train_batch_size0": 4,
                "sampler_config": {
                    "name": "batch_sampler",
                    "bs": {"crop_size_width": 64, "crop_size_height": 48},
                },
            },
            {"sampler_config": {"name": "batch_sampler", "bs": {"crop_size_width": 32}}},
        ],
    },
    "dataset.train_batch_size0": 10,
}


def chain(mode="sequential", **changes):
    recipe = load_recipe({**CHAIN, "sampler.chain_sampler_mode": mode, **changes})
    return SAMPLERS.build(recipe.sampler, batch_size=recipe.dataset.train_batch_size0)


def release_cases():
    return json.loads((TRACES / "samplers_cvnets_v0.1.json").read_text())["cases"]


@pytest.mark.parametrize("case", release_cases(), ids=lambda case: case["name"])
def test_batches_of_release_01(case):
    """That release also rounds a batch to a multiple of the number of GPUs."""
    own = {k.rpartition(".")[2]: v for k, v in case["config"].items() if k.startswith("sampler.")}
    options = VariableBatchOptions(**own, at_least_base_batch=True)
    sampler = VariableBatchSampler(options, batch_size=case["config"]["dataset.train_batch_size0"])
    rounded = [
        [size.height, size.width, make_divisible(size.batch, case["n_gpus"])]
        for size in sampler.sizes(0)
    ]
    assert rounded == case["h_w_batch"]


def test_a_chain_in_sequence_by_hand():
    sampler = chain()
    plan = RunPlan(seed=1, dataset_size=12, sampler=sampler).epoch(0)
    drawn = [(m.height, m.width, m.images) for step in plan.steps for m in step]
    assert drawn == [(48, 64, 4)] * 3 + [(256, 32, 10), (256, 32, 2)]
    first, second = (
        [index for step in steps for m in step for index in plan.indices(m)]
        for steps in (plan.steps[:3], plan.steps[3:])
    )
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert sampler.base == Size(48, 64, 10)
    assert sampler.sizes(0) == [Size(48, 64, 4), Size(256, 32, 10)]
    assert sampler.notes() == [
        "an epoch covers the data 2 times, one after the other: chain_sampler"
    ]


def test_a_chain_in_turns_by_hand():
    plan = RunPlan(seed=1, dataset_size=12, sampler=chain("interleave")).epoch(0)
    assert [num_samples(step) for step in plan.steps] == [4, 10, 4, 2, 4]


def test_joined_plans_keep_their_samples_and_every_sample_has_a_seed_of_its_own():
    sizes = [Size(8, 8, 3)]
    plans = [
        plan_epoch(seed=2, epoch=5, dataset_size=20, sizes=sizes, micro_batches=2, stream=(number,))
        for number in range(3)
    ]
    assert len({tuple(plan.order) for plan in plans}) == 3
    for interleave in (False, True):
        made = joined(plans, interleave=interleave)
        keys = [key for step in made.steps for micro in step for key in made.keys(micro)]
        assert Counter(key.index for key in keys) == dict.fromkeys(range(20), 3)
        assert len({key.seed for key in keys}) == 60


def test_a_chain_is_the_same_for_any_number_of_processes():
    one, many = (
        RunPlan(seed=3, dataset_size=50, sampler=chain("interleave"), **share).epoch(2)
        for share in ({"accum_freq": 3}, {"processes": 3})
    )
    assert one.steps == many.steps
    assert one.order.tolist() == many.order.tolist()


def test_a_chain_survives_being_written_out(tmp_path):
    recipe = load_recipe(CHAIN)
    (tmp_path / "config.yaml").write_text(resolved_yaml(recipe))
    assert flat(load_recipe(tmp_path / "config.yaml")) == flat(recipe)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"sampler.chain_sampler": []}, "sampler.chain_sampler: no samplers are listed"),
        (
            {"sampler.chain_sampler": [{"sampler_config.name": "chain_sampler"}]},
            "sampler.chain_sampler[0].sampler_config.name: a chain cannot hold a chain",
        ),
        (
            {"sampler.chain_sampler": [{}, {"sampler_config.name": "bach_sampler"}]},
            "sampler.chain_sampler[1].sampler_config.name: no sampler is called 'bach_sampler'",
        ),
        (
            {"sampler.chain_sampler": [{}, {"train_batch_size0": 0}]},
            "sampler.chain_sampler[1].train_batch_size0: must be at least 1",
        ),
    ],
)
def test_mistakes_in_a_chain(change, line):
    with pytest.raises(RecipeError) as error:
        load_recipe({"sampler.name": "chain_sampler"} | change)
    assert f"python: {line}" in error.value.lines()[0]


def test_a_chain_has_one_task():
    recipe = load_recipe(
        {"sampler.name": "chain_sampler", "sampler.chain_sampler": [{"task_name": "segmentation"}]}
    )
    with (
        pytest.raises(UserError, match=r"python: sampler\.chain_sampler\[0\]\.task_name: segm"),
        located(recipe),
    ):
        build_task(recipe)


def test_official_keys_without_effect_are_named():
    keys = ["sampler.use_shards", "sampler.disable_shuffle_sharding", "sampler.msc.scale_inc"]
    given_ = dict.fromkeys(keys, True) | {
        "dataset.collate_fn_name_val": "default_collate_fn",
        "dataset.sample_selection_random_seed": 3,
        "sampler.chain_sampler_mode": "interleave",
    }
    lines = without_effect(load_recipe(given_))
    assert {line.split()[1] for line in lines} == set(given_)
    recipe = load_recipe({"dataset.sample_efficient_training.enable": True})
    assert "sample-efficient training is not built" in recipe.notes[-1]
    linked = [{"val_batch_size0": 9}]
    recipe = load_recipe({"sampler.name": "chain_sampler", "sampler.chain_sampler": linked})
    (line,) = without_effect(recipe)
    assert line.startswith("python: sampler.chain_sampler[0].val_batch_size0 has no effect")


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.sampled_from([0, 3, 4, 90]), min_size=1, max_size=120))
def test_classes_come_equally_often_and_so_do_the_images_of_each(labels):
    order = balanced(np.array(labels), 1, 2, 3)
    assert len(order) == len(labels)
    drawn = Counter(labels[index] for index in order)
    assert max(drawn.values()) - min(drawn[label] for label in set(labels)) <= 1
    times = Counter(order.tolist())
    for label in set(labels):
        own = [times[index] for index, other in enumerate(labels) if other == label]
        assert max(own) - min(own) <= 1


def test_balanced_epochs_by_hand():
    """Of 9 positions each of two classes has 4 or 5: the one rare image comes so often."""
    labels = np.array([7] * 8 + [1])
    run = RunPlan(
        seed=0,
        dataset_size=9,
        sampler=VariableBatchSampler(VariableBatchOptions(), batch_size=4),
        labels=labels,
    )
    orders = [run.epoch(epoch).order.tolist() for epoch in range(40)]
    assert {order.count(8) for order in orders} == {4, 5}
    assert {index for order in orders for index in order} == set(range(9))
    places = [place for order in orders for place in range(9) if order[place] == 8]
    assert 3.3 < np.mean(places) < 4.7  # classes are mixed: 4, give or take 4 deviations
    assert len({tuple(order) for order in orders}) == 40
    repeated = plan_epoch(
        seed=0,
        epoch=0,
        dataset_size=9,
        sizes=[Size(8, 8, 3)],
        micro_batches=1,
        labels=labels,
        num_repeats=2,
    )
    assert repeated.order.tolist() == np.repeat(orders[0], 2).tolist()


def test_the_recipe_reaches_the_plan(image_folder, tmp_path):
    recipe = load_recipe(
        {"sampler.class_balanced": True, "dataset.root_train": str(image_folder / "train")}
    )
    task = build_task(recipe)
    sources = {"train": task.build_source("train")}
    sampler = SAMPLERS.build(recipe.sampler, batch_size=4)
    run = Assembly(recipe, task, sampler, sources, None, None, None, True).run_plan(1)
    assert run.labels.tolist() == [0] * 24 + [1] * 24 + [2] * 24
