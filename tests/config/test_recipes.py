"""Whole recipes: what is read, what is refused, and what the resolved text says."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import RecipeError, UserError
from engine.reading import find_recipe, load_recipe, located, task_name
from engine.recipe import recipe_type
from engine.resolved import flat, operational_keys, resolved_yaml

OWN = "(one of your own: see common.plugins)"


def mistakes(source, *words, **more) -> list[str]:
    with pytest.raises(UserError) as error:
        load_recipe(source, words, **more)
    return error.value.lines()


def test_every_mistake_of_a_recipe_at_once(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("""\
common:
  mixed_precison: true
  seed: no
optim:
  name: adamww
  adamw: {beta1: 1.0}
scheduler:
  max_epoch: 5
  cosine: {max_lr: 1e-3, min_lr: 1e-2}
stats:
  val: [top1, top9]
  checkpoint_metric: top5
sampler:
  vbs:
    min_crop_size_width: 640
dataset.category: claassification
""")
    first = f"{path}:"
    assert mistakes(
        path, "model.classification.mit.mode=xx_smal", "junk", "optim.weight_decay=-1"
    ) == [
        f"{first}2: common.mixed_precison: unknown key - did you mean mixed_precision or "
        "mixed_precision_dtype?",
        f"{first}3: common.seed: a whole number is expected ('no' given)",
        f"{first}5: optim.name: no optimizer is called 'adamww' - did you mean adamw or adam? {OWN}",
        f"{first}6: optim.adamw.beta1: must be below 1 ('1.0' given)",
        f"{first}8: scheduler.max_epoch: unknown key - did you mean max_epochs?",
        f"{first}9: scheduler.cosine.min_lr: 0.01 is above max_lr = 0.001; lower min_lr or raise "
        "max_lr",
        f"{first}11: stats.val: no metric is called 'top9' - did you mean top5 or top1? {OWN}",
        f"{first}12: stats.checkpoint_metric: 'top5' is not measured (stats.val gives loss, top1, "
        "top9) - add it to stats.val",
        f"{first}15: sampler.vbs.min_crop_size_width: 640 is larger than max_crop_size_width = 320; "
        "lower the one or raise the other",
        f"{first}16: dataset.category: no task is called 'claassification' - did you mean "
        f"classification? {OWN}",
        "command line: 'junk' is not key=value, e.g. common.seed=1",
        "command line: optim.weight_decay: must be at least 0 ('-1' given)",
        "command line: model.classification.mit.mode: not one of the choices ('xx_smal' given) - "
        "did you mean xx_small or x_small?",
    ]


def test_sizes_are_at_least_a_pixel():
    for size, shown in ((0, "0"), ([32, -1], "32, -1")):
        assert mistakes({"image_augmentation.resize.size": size}) == [
            f"python: image_augmentation.resize.size: must be at least 1 pixel ({shown} given)"
        ]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"scheduler.name": "fixed"},
            "python: scheduler.fixed.lr: the fixed schedule needs a rate, e.g. 0.001",
        ),
        (
            {"sampler.name": "variable_batch_sampler", "sampler.vbs.min_crop_size_width": 300},
            "python: sampler: the height range gives ",
        ),
        (
            {
                "sampler.name": "variable_batch_sampler",
                "sampler.vbs.scale_inc": True,
                "sampler.vbs.max_crop_size_width": 512,
                "sampler.vbs.min_crop_size_width": 352,
                "sampler.vbs.max_scale_inc_factor": 0.5,
            },
            "python: sampler: the height range gives ",
        ),
    ],
)
def test_parts_that_need_no_data_are_tried_before_anything_else(given, line):
    first, second = mistakes({**given, "stats.val": "top2"})
    assert {first[:20], second[:20]} == {line[:20], "python: stats.val: no metric"[:20]}
    assert line[20:] in first + second
    other = {"scheduler.name": "fixed", "scheduler.fixed.lr": "x"}
    assert mistakes(other) == ["python: scheduler.fixed.lr: a number is expected ('x' given)"]


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({}, "classification"),
        ({"model.detection.name": "ssd"}, "detection"),
        ({"model.segmentation.name": "encoder_decoder"}, "segmentation"),
        (
            {"model.segmentation.name": "encoder_decoder", "dataset.category": "classification"},
            "classification",
        ),
    ],
)
def test_the_task_is_named_or_that_of_the_network(given, task):
    assert task_name(load_recipe(given)) == task


def test_mistakes_in_the_sections_of_segmentation():
    given = {
        "image_augmentation.random_resize.min_size": 256,
        "image_augmentation.random_crop": {"pad_if_needed": True, "resize_if_needed": True},
        "loss.segmentation.name": "dice",
        "model.segmentation": {"name": "encoder_decode", "output_stride": 4, "lr_multiplier": 0},
        "model.segmentation.deeplabv3.aspp_rates": [6, 12],
        "model.segmentation.pspnet.psp_pool_size": [1, 2],
    }
    found = mistakes(given)
    near = "encoder_decode' - did you mean encoder_decoder?"
    assert sorted(line.removeprefix("python: ") for line in found) == [
        "image_augmentation.random_crop.resize_if_needed: not together with pad_if_needed; choose one",
        "image_augmentation.random_resize.min_size: give max_size as well, or neither",
        f"loss.segmentation.name: no segmentation loss is called 'dice' - allowed: cross_entropy {OWN}",
        "model.segmentation.deeplabv3.aspp_rates: 3 whole numbers are expected ([6, 12] given)",
        "model.segmentation.lr_multiplier: must be above 0 (0 given)",
        f"model.segmentation.name: no segmentation model is called '{near} {OWN}",
        "model.segmentation.output_stride: not one of the choices (4 given) - allowed: 16, 32, 8",
        "model.segmentation.pspnet.psp_pool_size: unknown key - did you mean psp_pool_sizes?",
    ]
    assert mistakes({"stats.val": ["iou"]}) == [
        "python: stats.val: iou measures segmentation, but the task is classification; take it out"
    ]


def test_checks_of_two_options_wait_until_both_are_right():
    assert mistakes({"stats.val": [5.5, {}], "stats.checkpoint_metric": "top1"}) == [
        "python: stats.val: text is expected (a section given)"
    ]


def test_an_empty_recipe_is_a_valid_one(tmp_path):
    (tmp_path / "r.yaml").write_text("")
    assert (
        flat(load_recipe(tmp_path / "r.yaml")) == flat(load_recipe({})) == flat(load_recipe(None))
    )


@pytest.mark.parametrize("text", ["- a\n- b", "5", "model", "null"])
def test_a_recipe_that_is_no_mapping(text, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert mistakes(path) == [
        f"{path}:1: a recipe is a mapping of sections, e.g. model, optim, scheduler"
    ]


def test_recipes_are_found_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_recipe("demo/classification")
    assert shipped.name == "classification.yaml"
    assert shipped == find_recipe("demo/classification.yaml") == find_recipe(shipped)
    (tmp_path / "mine.yaml").write_text("")
    assert find_recipe("mine") == Path("mine.yaml")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/classification.yaml").write_text("")
    assert find_recipe("demo/classification") == Path("demo/classification.yaml")


def test_recipes_that_cannot_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    where = "no such recipe here or among the shipped ones - did you mean"
    assert mistakes("config/demo/clasification.yaml")[0].startswith(
        f"config/demo/clasification.yaml: {where} demo/classification.yaml"
    )
    assert mistakes("folder") == ["folder: is a folder; give a recipe, a YAML file"]
    assert mistakes("x" * 500)[0].startswith("xxx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_recipe_that_cannot_be_read(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("")
    path.chmod(0)
    assert mistakes(path) == [f"{path}: cannot read the recipe (Permission denied)"]


# --- the resolved text ---------------------------------------------------------------------------


def test_the_resolved_recipe_says_where_each_value_comes_from(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("optim:\n  name: adamw\n  weight_decay: 1e-4")
    recipe = load_recipe(path, ["optim.adamw.beta1=0.5"])
    lines = resolved_yaml(recipe).splitlines()
    start = lines.index("optim:")
    assert lines[start : start + 9] == [
        "optim:",
        "  adamw:",
        "    amsgrad: false  # default",
        "    beta1: 0.5  # command line",
        "    beta2: 0.98  # default",
        "    eps: null  # default",
        f"  name: adamw  # {path}:2",
        "  no_decay_bn_filter_bias: false  # default",
        f"  weight_decay: 0.0001  # {path}:3",
    ]
    assert "momentum: 0.9" not in resolved_yaml(recipe)  # sgd is not selected


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
POSITIVE = st.floats(1e-300, 1e300)


@settings(max_examples=60, deadline=None)
@given(
    label=TEXTS,
    path=st.none() | TEXTS,
    rate=POSITIVE,
    decay=st.floats(0, 1e300),
    names=st.lists(TEXTS, max_size=3),
    pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=2),
    epochs=st.none() | st.integers(1, 10**12),
    size=st.integers(1, 999) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_the_resolved_recipe_is_read_back_as_the_same_recipe(
    tmp_path_factory, label, path, rate, decay, names, pairs, epochs, size
):
    given = {
        "taskname": label,
        "common.resume": None if path == "None" else path,
        "common.run_label": "a...",
        "scheduler.cosine.max_lr": rate,
        "scheduler.cosine.min_lr": 0,
        "optim.weight_decay": decay,
        "model.rename_scopes_map": pairs,
        "model.resume_exclude_scopes": ",".join(names),
        "scheduler.max_epochs": epochs,
        "image_augmentation.resize.size": size,
    }
    recipe = load_recipe(given)
    stored = tmp_path_factory.mktemp("run") / "config.yaml"
    stored.write_text(resolved_yaml(recipe), encoding="utf-8")
    assert flat(load_recipe(stored)) == flat(recipe)
    theirs = yaml.safe_load(stored.read_text(encoding="utf-8"))  # and other readers agree
    assert theirs["taskname"] == label
    assert theirs["scheduler"]["cosine"]["max_lr"] == rate
    assert theirs["model"]["rename_scopes_map"] == [list(pair) for pair in pairs]


# --- precedence and operational keys -------------------------------------------------------------


def test_a_mapping_in_all_spellings_is_the_same_recipe():
    nested = {"model": {"classification": {"mit": {"mode": "x_small"}}}, "common": {"seed": 3}}
    dotted = {"model.classification.mit.mode": "x_small", "common.seed": 3}
    mixed = {"model.classification": {"mit": {"mode": "x_small"}}, "common": {"seed": 3}}
    words = ["model.classification.mit.mode=x_small", "common.seed=3"]
    first, *others = [flat(load_recipe(m)) for m in (nested, dotted, mixed)]
    assert others == [first, first]
    assert flat(load_recipe(None, words)) == first


def test_operational_keys_say_where_and_how_fast_only():
    free = operational_keys(recipe_type())
    assert {
        "common.results_loc",
        "common.device",
        "common.log_freq",
        "common.plugins",
        "dataset.root_train",
        "dataset.workers",
    } <= free
    known = set(flat(load_recipe({"dataset.category": "detection", "stats.val": ["coco_map"]})))
    for name in ("pascal", "image_mask"):  # only the options of what is chosen are shown
        known |= set(flat(load_recipe({"dataset.category": "segmentation", "dataset.name": name})))
    known |= set(flat(load_recipe({"dataset.name": "image_folder", "expected.metric": "loss"})))
    assert free <= known
    assert {"dataset.pascal.coco_root_dir", "evaluation.segmentation.flip"} <= free
    assert not free & {
        "common.seed",
        "dataset.train_batch_size0",
        "optim.weight_decay",
        "scheduler.max_epochs",
        "model.classification.name",
        "model.segmentation.seg_head",
        "dataset.pascal.use_coco_data",
        "dataset.image_mask.values",
        "expected.effective_batch",
    }


# --- plugins in recipes --------------------------------------------------------------------------

PLUGIN = '''
from pydantic import Field
from config.options import Options
from optim.kinds import OPTIMIZERS

class LionOptions(Options):
    """Lion."""
    beta: float = Field(0.9, gt=0, lt=1, description="decay")

@OPTIMIZERS.register("{name}", options=LionOptions)
def lion(options, groups):
    """Lion."""
'''


def test_a_plugin_is_imported_before_the_recipe_is_checked(tmp_path):
    (tmp_path / "lion.py").write_text(PLUGIN.replace("{name}", "lion_a"))
    path = tmp_path / "r.yaml"
    path.write_text("common: {plugins: lion.py}\noptim:\n  name: lion_a\n  lion_a:\n    beta: 1e-1")
    recipe = load_recipe(path)
    assert recipe.optim.lion_a.beta == 0.1
    assert recipe.common.plugins == (str(tmp_path / "lion.py"),)
    stored = tmp_path / "elsewhere" / "config.yaml"
    stored.parent.mkdir()
    stored.write_text(resolved_yaml(recipe))
    assert flat(load_recipe(stored)) == flat(recipe)


@pytest.mark.parametrize("given", ["", "null", "[]", "~"])
def test_no_plugins_in_all_spellings(given, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(f"common:\n  plugins: {given}")
    assert load_recipe(path).common.plugins == ()


def test_a_missing_plugin_is_reported_in_its_place_with_what_is_known_by_then(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("common:\n  plugins: no.py\n  seed: 1\n  seed: 2")
    missing, twice = mistakes(path)
    assert missing.startswith(
        f"{path}:2: common.plugins: no file 'no.py'; looked for {tmp_path}/no.py and "
    )
    assert twice == f"{path}:4: common.seed: given twice, first at {path}:3 - keep one"


def test_plugins_of_the_wrong_type_are_an_ordinary_mistake():
    assert mistakes({"common.plugins": [{"a": 1}]}) == [
        "python: common.plugins: text is expected (a section given)"
    ]


def test_a_recipe_of_others_imports_no_plugin_unless_the_user_names_it(tmp_path):
    (tmp_path / "lion.py").write_text(PLUGIN.replace("{name}", "lion_b"))
    theirs = {"common.plugins": [str(tmp_path / "lion.py")], "optim.name": "lion_b"}
    nested = {"common": {"plugins": [str(tmp_path / "lion.py")]}, "optim": {"name": "lion_b"}}
    for mapping in (theirs, nested):
        (line,) = mistakes(mapping, plugins=False, place="the recipe in x.pt")
        assert line.startswith("the recipe in x.pt: optim.name: no optimizer is called 'lion_b' - ")
    recipe = load_recipe(theirs, [f"common.plugins={tmp_path}/lion.py"], plugins=False)
    assert recipe.optim.name == "lion_b"


# --- errors that come later ----------------------------------------------------------------------


def test_later_errors_get_the_place_of_the_key_they_begin_with(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("optim:\n  name: sgd\nscheduler:\n  fixed:\n    lr: 1")
    recipe = load_recipe(path, ["common.device=cpu"])
    for text, line in (
        ("optim.name: odd", f"{path}:2: optim.name: odd"),
        ("scheduler.cosine.max_lr: odd", f"{path}:3: scheduler.cosine.max_lr: odd"),
        ("common.device: odd", "command line: common.device: odd"),
        ("dataset.root_train: odd", "dataset.root_train: odd"),
        ("w.pt: odd", "w.pt: odd"),
        ("odd", "odd"),
    ):
        with pytest.raises(UserError) as error, located(recipe):
            raise UserError(text)
        assert error.value.lines() == [line]


def test_a_recipe_error_has_its_places_already():
    recipe = load_recipe({"common.seed": 1})
    with pytest.raises(RecipeError) as error, located(recipe):
        load_recipe({"common.seed": "x"})
    assert error.value.lines() == ["python: common.seed: a whole number is expected ('x' given)"]
