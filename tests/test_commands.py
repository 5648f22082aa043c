"""The command line: both styles, the commands that show something, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import UserError
from engine.command_line import COMMANDS, main
from engine.commands.arguments import read_arguments
from engine.reading import load_recipe
from engine.recipe import RECIPES
from engine.resolved import flat

ROOT = Path(__file__).resolve().parent.parent
DEMO = RECIPES / "demo/classification.yaml"
PLUGIN = ROOT / "tests/plugins/tiny_models.py"


def line_of(word: str) -> int:
    """The line of the demo recipe where a word stands, counted from 1."""
    lines = DEMO.read_text().splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if word in line]
    return found


def resolved(words: list[str]):
    """The recipe that `cvnets train` would run, and where its keys come from."""
    arguments = read_arguments(words, "")
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    return flat(recipe), recipe.origins


SHORT = [
    "demo/classification",
    "common.results_loc=out",
    "common.mixed_precision=true",
    "common.accum_after_epoch=-1",
    "loss.classification.cross_entropy.ignore_index=-100",
    "stats.val=loss,top1",
    "stats.train=loss",
    "image_augmentation.random_resized_crop.scale=0.2,1",
    "image_augmentation.resize.size=80",
    "optim.weight_decay=1e-3",
    "common.run_label=a b",
    "sampler.vbs.ep_intervals=3,5",
]
OFFICIAL = {
    "dashes": [
        *("--common.config-file", "demo/classification", "--common.results-loc", "out"),
        *("--common.mixed-precision", "--common.accum-after-epoch", "-1"),
        *("--loss.classification.cross-entropy.ignore-index", "-100"),
        *("--stats.val", "loss", "top1", "--stats.train", "loss"),
        *("--image-augmentation.random-resized-crop.scale", "0.2", "1"),
        *("--image-augmentation.resize.size", "80", "--optim.weight-decay", "1e-3"),
        *("--common.run-label", "a b", "--sampler.vbs.ep-intervals", "3", "5"),
    ],
    "underscores and equals": [
        *("--common.config_file=demo/classification", "--common.results_loc=out"),
        *("--common.mixed_precision=true", "--common.accum_after_epoch=-1"),
        "--loss.classification.cross_entropy.ignore_index=-100",
        *("--stats.val=loss,top1", "--stats.train=loss"),
        "--image_augmentation.random_resized_crop.scale=[0.2, 1.0]",
        *("--image_augmentation.resize.size=80", "--optim.weight_decay=0.001"),
        *("--common.run_label=a b", "--sampler.vbs.ep_intervals=[3, 5]"),
    ],
    "override-kwargs": [
        *("--common.config-file", "demo/classification", "--common.override-kwargs", *SHORT[1:]),
    ],
    "all of them": [
        *("--common.results-loc", "out", "--common.override-kwargs", *SHORT[2:6]),
        *("--common.config-file", "demo/classification", *SHORT[6:9]),
        *("--optim.weight_decay", "1e-3", "--common.override_kwargs", *SHORT[10:]),
    ],
    "words before the recipe": [*SHORT[1:], "demo/classification"],
}


@pytest.mark.parametrize("style", OFFICIAL)
def test_both_styles_give_the_same_recipe(style):
    short, official = resolved(SHORT), resolved(OFFICIAL[style])
    assert official == short
    options, origins = short
    assert options["common.mixed_precision"] is True
    assert options["loss.classification.cross_entropy.ignore_index"] == -100
    assert options["stats.val"] == ("loss", "top1")
    assert origins["stats.val"] == "command line"
    assert origins["scheduler.max_epochs"] == f"{DEMO}:{line_of('max_epochs:')}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--a.b", "-1"], ["a.b=-1"]),
        (["--a.b", "-.5e-3"], ["a.b=-.5e-3"]),
        (["--a.b", "-inf"], ["a.b=-inf"]),
        (["--a-b.c-d", "x-y"], ["a_b.c_d=x-y"]),
        (["--flag", "--other", "1"], ["flag=true", "other=1"]),
        (["--flag", "a=1"], ["flag=true", "a=1"]),
        (["--flag", "-q"], ["flag=true"]),
        (["--a=b=c"], ["a=b=c"]),
        (["--a="], ["a="]),
        (["--common.override-kwargs=a=1", "b=2"], ["a=1", "b=2"]),
        (["--common.override-kwargs", "a=1", "--b", "2"], ["a=1", "b=2"]),
        (["--common.override-kwargs", "a=1", "-q", "b=2"], ["a=1", "b=2"]),
        (["--a", "1", "2", "3"], ["a=1,2,3"]),
        (["--a", "[1, 2]"], ["a=[1, 2]"]),
    ],
)
def test_words_of_the_command_line(words, expected):
    assert read_arguments(words, "").overrides == expected


def test_the_recipe_may_stand_anywhere():
    for words in (["r", "a=1"], ["a=1", "r"], ["-q", "r"], ["--common.config-file=r", "a=1"]):
        assert read_arguments(words, "").recipe == "r"
    assert read_arguments(["runs/lr=1/r.yaml"], "").recipe == "runs/lr=1/r.yaml"
    assert read_arguments(["r", "-v"], "").verbose
    assert read_arguments(["--quiet", "r"], "").quiet


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["r", "s"], "'s': a recipe is given already (r); options are key=value"),
        (["r", "--common.config-file", "s"], "'s': a recipe is given already (r); options are key"),
        (["--common.config-file"], "--common.config-file: one recipe is expected (0 given)"),
        (["--common.config-file", "r", "s"], "--common.config-file: one recipe is expected (2 giv"),
        (["-x"], "-x: no such option; allowed: -q, -v, -h, --key value, key=value"),
    ],
)
def test_words_that_cannot_be_understood(words, line):
    with pytest.raises(UserError) as error:
        read_arguments(words, "")
    assert str(error.value).startswith(line)


# --- exit codes and help -------------------------------------------------------------------------


def test_help_lists_every_command(capsys):
    for words in (["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_arguments(name, capsys):
    assert main([name, "--help"]) == 0
    done = capsys.readouterr()
    assert done.out.startswith(f"usage: cvnets {name}")
    assert done.err == ""


def test_a_command_per_file_and_a_file_per_command():
    files = {path.stem for path in (ROOT / "engine/commands").glob("*.py")}
    assert files - {"__init__", "arguments"} == {name.replace("-", "_") for name in COMMANDS}


def test_version(capsys):
    assert main(["--version"]) == 0
    import cvnets

    assert capsys.readouterr().out == f"{cvnets.__version__}\n"


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    import engine.commands.env

    monkeypatch.setattr(engine.commands.env, "run", lambda words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["env"])


def test_a_stop_on_request_is_three(monkeypatch, capsys):
    import engine.commands.env
    from config.errors import StopRequested

    def stop(words):
        raise StopRequested("the state is saved")

    monkeypatch.setattr(engine.commands.env, "run", stop)
    assert main(["env"]) == 3
    assert "the state is saved" in capsys.readouterr().err


# --- list, explain, env --------------------------------------------------------------------------


def test_list_shows_what_is_registered(capsys):
    assert main(["list"]) == 0
    kinds = capsys.readouterr().out.split(": ")[1].strip().split(", ")
    expected = {
        "models": "mobilevit",
        "datasets": "imagenet",
        "samplers": "variable_batch_sampler",
        "transforms": "random_resized_crop",
        "losses": "cross_entropy",
        "optimizers": "adamw",
        "schedules": "cosine",
        "tasks": "classification",
        "metrics": "top1",
        "observers": "tensorboard",
        "recipes": "demo/classification.yaml",
    }
    assert set(expected) <= set(kinds)
    for kind in kinds:
        assert main(["list", kind]) == 0
        assert expected.get(kind, "") in capsys.readouterr().out


def test_list_shows_named_weights(capsys):
    assert main(["list", "weights", "mobilevit_*small"]) == 0
    shown = capsys.readouterr().out
    assert "mobilevit_xx_small" in shown
    assert "cvnets-v0.1" in shown
    assert "69" in shown
    assert main(["list", "weights", "mobilevit_s"]) == 2
    assert "no name matches 'mobilevit_s' - did you mean mobilevit_small" in capsys.readouterr().err


def test_list_shows_the_users_own(capsys):
    assert main(["list", "models", "--plugins", str(PLUGIN)]) == 0
    out = capsys.readouterr().out
    assert "tiny" in out
    assert "model.classification.tiny.*" in out
    assert "A strided convolution, pooling, a" in out


def explain(capsys, *words) -> list[str]:
    assert main(["explain", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_explain_gives_meaning_type_default_and_value_with_origin(capsys):
    head = [
        "optim.weight_decay",
        "  meaning: weight decay of all parameters that are decayed",
        "  type:    float, >= 0.0",
        "  default: 4e-05",
    ]
    assert explain(capsys, "optim.weight_decay") == head
    value = f"  value:   0.01, from {DEMO}:{line_of('weight_decay:')}"
    assert explain(capsys, "optim.weight-decay", "demo/classification") == [*head, value]
    given = explain(capsys, "optim.weight_decay", str(DEMO), "optim.weight_decay=1e-1")
    assert given == [*head, "  value:   0.1, from command line"]
    assert explain(capsys, "optim.weight_decay", "common.seed=1")[-1] == (
        "  value:   4e-05, from the default"
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("scheduler.max_epochs", "int | null, >= 1"),
        ("common.mixed_precision_dtype", "float16 | bfloat16"),
        ("image_augmentation.resize.size", "int | list of int"),
        ("stats.val", "list of str"),
        ("common.auto_resume", "bool"),
        ("optim.sgd.momentum", "float, >= 0.0, < 1.0"),
    ],
)
def test_explain_says_types_in_words(key, words, capsys):
    assert f"  type:    {words}" in explain(capsys, key)


def test_explain_lists_names_and_sections(capsys):
    names = explain(capsys, "optim.name")[1].split(": ")[-1].split(", ")
    assert {"adamw", "sgd"} <= set(names)
    assert names == sorted(names)
    lines = explain(capsys, "optim")
    assert lines[0].startswith("optim: ")
    assert any(line.startswith("  optim.sgd.*: ") for line in lines)
    assert any(line.startswith("  optim.weight_decay: ") for line in lines)


def test_every_option_can_be_explained(capsys):
    """No option without a meaning, a type in words and a default."""
    for key in flat(load_recipe({})):
        lines = explain(capsys, key)
        assert len(lines[1]) > len("  meaning: ") + 3, key
        assert "None" not in lines[1], key
        assert "<" not in lines[2].partition(",")[0], key
        assert len(lines) == 4


def test_explain_knows_old_keys(capsys):
    assert main(["explain", "stats.name"]) == 2
    assert capsys.readouterr().err == (
        "stats.name: an old key, read as stats.train and stats.val\n"
    )


def test_env_is_json_with_what_a_bug_report_needs(capsys):
    assert main(["env"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "torchvision", "numpy", "opencv-python"} <= set(found["packages"])
    assert found["cpus"] == os.cpu_count()


# --- the scripts ---------------------------------------------------------------------------------


def script(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / name), *words],
        cwd=cwd,
        env={"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_official_scripts_train_and_evaluate_from_any_folder(tiny_recipe, tmp_path):
    import yaml

    flat_recipe = {k: v for k, v in tiny_recipe.items() if k != "common.results_loc"}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(flat_recipe))
    trained = script(
        "main_train.py",
        *("--common.config-file", "r.yaml", "--common.results-loc", "out"),
        *("--common.override-kwargs", "scheduler.max_epochs=1", "ema.enable=false"),
        "--common.tensorboard-logging",
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[-1] == (
        "done: out/run/summary.json, curves.png, predictions.png"
    )
    weights = "out/run/checkpoint_best.pt"
    assert (tmp_path / weights).is_file()
    assert not (tmp_path / "out/run/checkpoint_ema_best.pt").exists()
    assert (tmp_path / "out/run/tb_logs").is_dir()
    by_recipe = script(
        "main_eval.py",
        *("--common.config-file", "r.yaml", "--common.results-loc", "out"),
        *("--model.classification.pretrained", weights),
        cwd=tmp_path,
    )
    assert by_recipe.returncode == 0, by_recipe.stderr
    report = json.loads(
        (tmp_path / "out/run/evaluations/checkpoint_best/evaluation.json").read_text()
    )
    by_checkpoint = script("main_eval.py", weights, f"common.plugins={PLUGIN}", cwd=tmp_path)
    assert by_checkpoint.returncode == 0, by_checkpoint.stderr
    assert (
        json.loads((tmp_path / "out/run/evaluations/checkpoint_best/evaluation.json").read_text())
        == report
    )
    summary = json.loads((tmp_path / "out/run/summary.json").read_text())
    assert report["metrics"]["top1"] == summary["top1"]


def test_the_official_scripts_exit_with_two_on_a_mistake(tmp_path):
    for name in ("main_train.py", "main_eval.py"):
        done = script(name, "--common.config-file", "nowhere.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("nowhere.yaml: no such recipe here or among the shipped ones")
        assert done.stderr.count("\n") == 1
