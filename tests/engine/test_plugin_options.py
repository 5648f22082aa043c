"""Options of the user's metrics, observers, tasks and transforms: from the recipe to the component."""

import json
import sys
from pathlib import Path

import pytest

from config.errors import RecipeError, UserError
from data.sampler.plan import RunPlan, plan_evaluation
from engine import evaluate, load_recipe, train
from engine.command_line import main
from engine.commands.list import registries
from engine.distributed import World
from engine.parts import build_loader, build_sampler, build_task
from engine.resolved import flat, operational_keys, resolved_yaml

PARTS = '''
import torch
from pydantic import Field, model_validator
from config.errors import UserError
from config.options import Options
from data.kinds import TRANSFORMS, TransformOptions
from engine.kinds import METRICS, OBSERVERS, TASKS
from engine.metrics.metric import Metric
from engine.observers.observer import Observer
from engine.tasks.classification import Classification

class OwnScoreOptions(Options):
    """The score."""
    factor: float = Field(1.0, gt=0, description="what the number of images is multiplied by")
    low: int = Field(0, description="lowest")
    high: int = Field(9, description="highest")

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high = {self.high}; lower it")
        return self

@METRICS.register("own_score", key="score", options=OwnScoreOptions)
class OwnScore(Metric):
    """Images seen, times a factor."""

    def __init__(self, options):
        if options.high == 8:
            raise UserError("stats.score.high: 8 is not liked; take 9")
        self.factor, self.images = options.factor, 0

    def update(self, seen):
        self.images += seen.images

    def state(self):
        return self.images

    def result(self, states):
        return self.factor * sum(states)

class OwnNotesOptions(Options):
    """The notes."""
    file: str = Field("notes.txt", description="file in the run folder")

@OBSERVERS.register("own_notes", options=OwnNotesOptions)
class OwnNotes(Observer):
    """Writes a line per evaluation."""

    def __init__(self, options, *, folder, quiet):
        self.path = folder / options.file

    def on_evaluation(self, record):
        with open(self.path, "a") as file:
            file.write(f"{record.stage} {record.metrics.get('own_score')}\\n")

class OwnGreyOptions(TransformOptions):
    """Grey images."""
    level: int = Field(7, ge=0, le=255, description="the grey value")

class OwnTaskOptions(Options):
    """The task."""
    level: int = Field(1, description="a number")

@TASKS.register("own_task", key="own", options=OwnTaskOptions)
class OwnTask(Classification):
    """Classification by another name."""

    def __init__(self, options, *, recipe):
        super().__init__(None, recipe=recipe)
        self.options = options

@TRANSFORMS.register("own_grey", options=OwnGreyOptions)
def own_grey(options, *, size):
    """Nothing but grey."""
    return lambda image: torch.full_like(image, options.level)
'''


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is forgotten afterwards."""
    for registry in registries().values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("config.plugin_files."):
            del sys.modules[name]


@pytest.fixture
def parts(tmp_path) -> Path:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    return path


@pytest.fixture
def recipe(tiny_recipe, parts) -> dict:
    """The tiny recipe with a metric, an observer and a transform of the user."""
    return {
        **tiny_recipe,
        "common.plugins": [*tiny_recipe["common.plugins"], str(parts)],
        "common.observers": "own_notes",
        "common.own_notes.file": "mine.txt",
        "stats.train": ["loss", "own_score"],
        "stats.val": ["loss", "top1", "own_score"],
        "stats.score.factor": 0.5,
        "image_augmentation.own_grey.enable": True,
    }


def test_metric_and_observer_get_their_options_in_training_and_evaluation(recipe):
    summary = train(load_recipe({**recipe, "scheduler.max_epochs": 1, "ema.enable": False}))
    folder = Path(summary["run"])
    assert (summary["last"]["train.own_score"], summary["own_score"]) == (36.0, 16.5)
    assert (folder / "mine.txt").read_text().splitlines() == ["Train 36.0", "Val 16.5"]
    weights = {"model.classification.pretrained": str(folder / "checkpoint_best.pt")}
    found = evaluate(load_recipe({**recipe, **weights, "stats.score.factor": 2}))
    assert found["metrics"]["own_score"] == 66.0


def test_a_task_gets_its_options(parts):
    given = {"common.plugins": str(parts), "dataset.category": "own_task"}
    for level, more in ((1, {}), (5, {"dataset.own.level": 5})):
        recipe = load_recipe({**given, **more})
        assert build_task(recipe).options.level == level
        assert flat(recipe)["dataset.own.level"] == level
    assert "dataset.own.level" not in flat(load_recipe({}))


def test_transforms_change_training_and_not_evaluation(recipe):
    loaded = load_recipe({**recipe, "image_augmentation.own_grey.level": 99})
    task, sampler = build_task(loaded), build_sampler(loaded, 8)
    train_source, val_source = task.build_source("train"), task.build_source("val")
    plan = RunPlan(seed=0, dataset_size=72, sampler=sampler)
    world = World()
    first = next(build_loader(loaded, train_source, world).training(plan.epoch(0)))
    assert first.images.unique().tolist() == [99]
    plan = plan_evaluation(33, sampler.base)
    other = next(build_loader(loaded, val_source, world).evaluation(plan))
    assert len(other.images.unique()) > 50


# --- the resolved text ---------------------------------------------------------------------------


def own(recipe) -> dict:
    found = flat(recipe)
    marks = (".score.", ".own_notes.", ".own_grey.")
    return {key: value for key, value in found.items() if any(mark in key for mark in marks)}


def test_the_resolved_recipe_shows_what_is_selected_or_given(parts, tmp_path):
    plugins = {"common.plugins": str(parts)}
    assert own(load_recipe(plugins)) == {}
    score = {"stats.score.factor": 1.0, "stats.score.high": 9, "stats.score.low": 0}
    for selected, expected in (
        ({"stats.val": "own_score"}, score),
        ({"stats.train": "own_score"}, score),
        ({"stats.score.factor": 1}, score),
        ({"common.observers": "own_notes"}, {"common.own_notes.file": "notes.txt"}),
        ({"common.own_notes.file": "a"}, {"common.own_notes.file": "a"}),
        (
            {"image_augmentation.own_grey.enable": True},
            {"image_augmentation.own_grey.enable": True, "image_augmentation.own_grey.level": 7},
        ),
        (
            {"image_augmentation.own_grey.level": 8},
            {"image_augmentation.own_grey.enable": False, "image_augmentation.own_grey.level": 8},
        ),
    ):
        recipe = load_recipe({**plugins, **selected})
        assert own(recipe) == expected
        (tmp_path / "again.yaml").write_text(resolved_yaml(recipe))
        assert flat(load_recipe(tmp_path / "again.yaml")) == flat(recipe)


def test_a_run_goes_on_with_other_options_of_observers_only(recipe):
    short = {**recipe, "scheduler.max_epochs": 1, "common.auto_resume": True}
    folder = Path(train(load_recipe(short))["run"])
    train(load_recipe({**short, "common.own_notes.file": "other.txt"}))
    with pytest.raises(RecipeError) as error:
        train(
            load_recipe({**short, "stats.score.factor": 3, "image_augmentation.own_grey.level": 1})
        )
    keys = [line.split(": ")[1] for line in error.value.lines()]
    assert keys == ["image_augmentation.own_grey.level", "stats.score.factor"]
    assert "common.own_notes.file" in operational_keys(type(load_recipe(short)))
    stages = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len([r for r in stages if r["kind"] == "evaluation" and r["stage"] == "Val"]) == 1


# --- mistakes, explain, list ---------------------------------------------------------------------


def mistakes(text: str, path: Path) -> list[str]:
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_recipe(path)
    return error.value.lines()


def test_mistakes_in_options_of_plugins_have_a_line_and_a_suggestion(parts, tmp_path):
    path = tmp_path / "r.yaml"
    text = f"""\
common:
  plugins: {parts}
  own_notes: {{fiel: a.txt}}
stats:
  score: {{factor: 0, low: x}}
  own_score: {{factor: 1}}
image_augmentation:
  own_grey:
    enable: 1
    levle: 3
  own_gray.enable: true
"""
    assert mistakes(text, path) == [
        f"{path}:3: common.own_notes.fiel: unknown key - did you mean file?",
        f"{path}:5: stats.score.low: a whole number is expected ('x' given)",
        f"{path}:5: stats.score.factor: must be above 0 ('0' given)",
        f"{path}:6: stats.own_score: unknown key - did you mean score?",
        f"{path}:9: image_augmentation.own_grey.enable: true or false is expected ('1' given)",
        f"{path}:10: image_augmentation.own_grey.levle: unknown key - did you mean level?",
        f"{path}:11: image_augmentation.own_gray: unknown key - did you mean own_grey?",
    ]
    low = f"common:\n  plugins: {parts}\nstats:\n  score:\n    high: 3\n    low: 4\n"
    assert mistakes(low, path) == [
        f"{path}:6: stats.score.low: 4 is above high = 3; lower it",
    ]


def test_a_component_that_refuses_its_options_has_a_line_too(recipe, tmp_path, capsys):
    import yaml

    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**recipe, "stats.score.high": 8}))
    line = path.read_text().splitlines().index("stats.score.high: 8") + 1
    assert main(["train", str(path)]) == 2
    assert capsys.readouterr().err == (f"{path}:{line}: stats.score.high: 8 is not liked; take 9\n")


def test_an_observer_cannot_have_its_options_where_the_run_has_one(tmp_path):
    (tmp_path / "clash.py").write_text(
        PARTS.replace('"own_notes"', '"clash", key="seed"').replace("own_", "clash_")
    )
    with pytest.raises(UserError) as error:
        load_recipe({"common.plugins": str(tmp_path / "clash.py")})
    (line,) = error.value.lines()
    assert line.startswith(f"{tmp_path}/clash.py:")
    assert line.endswith(
        "observer 'clash': its section of a recipe has something else called 'seed'; "
        "choose another key"
    )


def test_explain_and_list_show_options_of_plugins(parts, capsys):
    for kind, name, section in (
        ("metrics", "own_score", "stats.score.*"),
        ("observers", "own_notes", "common.own_notes.*"),
        ("transforms", "own_grey", "image_augmentation.own_grey.*"),
    ):
        assert main(["list", kind, "--plugins", str(parts)]) == 0
        rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
        cells = [[cell.strip() for cell in row] for row in rows]
        (place,) = [n for n, cell in enumerate(cells) if cell[1:2] == [name]]
        assert cells[place + 1][1] == section
    plugins = f"common.plugins={parts}"
    assert main(["explain", "stats.score.factor", plugins, "stats.score.factor=2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "stats.score.factor",
        "  meaning: what the number of images is multiplied by",
        "  type:    float, > 0",
        "  default: 1.0",
        "  value:   2.0, from command line",
    ]
    assert main(["explain", "image_augmentation.own_grey", plugins]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "image_augmentation.own_grey: options of transform own_grey",
        "  image_augmentation.own_grey.enable: use it in training",
        "  image_augmentation.own_grey.level: the grey value",
    ]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("stats.val", {"loss", "top1"}),
        ("stats.train", {"loss", "grad_norm"}),
        ("common.observers", {"console", "tensorboard"}),
        ("dataset.category", {"classification"}),
        ("dataset.name", {"imagenet"}),
    ],
)
def test_explain_lists_the_names_that_may_stand_there(key, names, capsys):
    assert main(["explain", key]) == 0
    meaning = capsys.readouterr().out.splitlines()[1]
    assert names <= set(meaning.rpartition(": ")[2].split(", "))
