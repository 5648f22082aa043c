"""The release that a recipe was written for, and what follows from it."""

import json
from pathlib import Path

import pytest

from config.errors import RecipeError
from config.releases import DEFAULTS, MARKERS, REFINING, RELEASES, apply_release
from config.source import flatten, from_mapping
from engine.effects import without_effect
from engine.reading import load_recipe
from engine.resolved import flat, resolved_yaml

RECIPES = json.loads((Path(__file__).parents[1] / "reference" / "recipe_keys.json").read_text())[
    "recipes"
]


def release_of(mapping):
    return next((n for n in load_recipe(mapping).notes if n.startswith("common.release: ")), "")


@pytest.mark.parametrize("name", RECIPES)
def test_every_official_recipe_gets_the_defaults_of_its_release(name):
    """Found from its keys alone; the true release is the folder that it comes from."""
    found, told = (from_mapping(RECIPES[name]) for _ in range(2))
    told.data["common"].data["release"] = from_mapping({"x": name.split("/")[0]}).data["x"]
    problems = []
    notes = apply_release(found, problems)
    apply_release(told, problems)
    for tree in (found, told):
        tree.data["common"].data.pop("release", None)
    assert problems == []
    values = [
        {key: getattr(value.data, "text", value.data) for key, value in flatten(tree).items()}
        for tree in (found, told)
    ]
    assert values[0] == values[1]
    assert not notes or name.split("/")[0] in notes[0]


def test_the_line_names_the_key_that_decided(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("ddp:\n  enable: true\nmodel:\n  classification:\n    mit: {mode: small}\n")
    recipe = load_recipe(path)
    line = recipe.notes[0]
    assert line.startswith(
        f"common.release: v0.1 or mobilevitv3-v1 ({path}:2: ddp.enable); 2 of its"
    )
    assert recipe.model.classification.mit.dropout == 0.1
    assert recipe.origins["model.classification.mit.dropout"] == "default of release v0.1"
    assert not any("dropout" in line for line in without_effect(recipe))


def test_a_key_on_the_command_line_is_no_sign_of_a_release(tmp_path):
    path = tmp_path / "official.yaml"
    path.write_text("ddp:\n  enable: true\nmodel:\n  classification:\n    mit: {mode: small}\n")
    for word in ("stats.val=loss,top1", "common.save_all_checkpoints=true", "taskname=mine"):
        assert load_recipe(path, [word]).common.release == "v0.1", word
    assert load_recipe(path, ["common.release=main"]).model.classification.mit.dropout == 0


def test_growing_sizes_grow_by_the_old_default():
    keys = {"ddp.enable": True, "sampler.vbs.scale_inc": True}
    assert load_recipe(keys).sampler.vbs.max_scale_inc_factor == 1.25
    assert load_recipe({"sampler.vbs.scale_inc": True}).sampler.vbs.max_scale_inc_factor == 1.0


def test_a_recipe_that_is_written_out_stays_what_it_is(tmp_path):
    for given in ({"ddp.enable": True, "model.classification.mit.mode": "small"}, {}):
        recipe = load_recipe(given)
        path = tmp_path / "config.yaml"
        path.write_text(resolved_yaml(recipe))
        assert flat(load_recipe(path)) == flat(recipe)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.classification.mit.mode", "small_v3"),
        ("image_augmentation.random_crop.resize_if_needed", True),
    ],
)
def test_a_key_of_today_is_no_sign_of_an_old_release(key, value):
    assert release_of({key: value, "stats.val": ["loss"]}) == ""
    assert load_recipe({key: value}).notes == ()


def test_without_a_marker_it_is_the_latest():
    recipe = load_recipe({"model.classification.mit.mode": "small"})
    assert recipe.notes == () and recipe.model.classification.mit.dropout == 0.0


def test_a_release_that_is_told_counts():
    keys = {"model.classification.mit.mode": "small", "ddp.enable": True}
    assert load_recipe(keys | {"common.release": "main"}).model.classification.mit.dropout == 0
    told = load_recipe({"model.detection.name": "ssd", "common.release": "v0.1"})
    assert (
        told.model.detection.ssd.conf_threshold,
        told.model.detection.ssd.nms_iou_threshold,
    ) == (
        0.05,
        0.3,
    )


def test_what_is_given_wins_over_the_default_of_the_release():
    keys = {"ddp.enable": True, "model.classification.mit.dropout": 0.3}
    assert load_recipe(keys).model.classification.mit.dropout == 0.3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ddp.enable": True}, {"ddp.disable": False}),
        ({"stats.name": "top1"}, {"stats.val": ["loss"]}),
        (
            {"loss.distillation.cls_kl_div_loss.mode": "soft"},
            {"loss.distillation.soft_kl_loss.temperature": 2.0},
        ),
    ],
)
def test_markers_that_exclude_each_other_are_one_line(first, second):
    with pytest.raises(RecipeError) as error:
        load_recipe(first | second)
    (line,) = error.value.lines()
    (one,), (two,) = first, second
    assert f"{two}: only " in line and f"but {one} (python) is of " in line
    assert "common.release" in line


def test_the_release_may_settle_it():
    keys = {"ddp.enable": True, "ddp.disable": False, "common.release": "v0.2"}
    assert load_recipe(keys).common.release == "v0.2"


def test_the_tables_name_keys_and_releases_that_there_are():
    known = flat(load_recipe({"common.release": "main"}))
    tables = (*MARKERS.values(), *REFINING.values())
    assert all(knows and knows < set(RELEASES) for knows in tables)
    for row in DEFAULTS:
        assert row.key.split(".")[0] == row.beside.split(".")[0], row
        load_recipe({row.key: row.value if row.value != "true" else True})
    assert "common.release" in known
