"""`cvnets profile` and `cvnets list models`: names, recipes, sizes, figures, mistakes."""

import importlib
import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification import VARIANT_NAMES
from engine.command_line import main

PLUGIN = Path(__file__).parent / "plugins/tiny_models.py"
XX_SMALL = json.loads(
    (Path(__file__).parent / "reference/classification/mobilevit_xx_small.json").read_text()
)


def shown(capsys, *words) -> str:
    assert main([str(word) for word in words]) == 0
    done = capsys.readouterr()
    assert done.err == ""
    return done.out


def rows(out: str) -> dict[str, list[str]]:
    """First cell -> the other cells of every row of the tables; a wrapped row counts as several."""
    cells = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in out.splitlines() if line[:1] in "│┃"]
    return {row[0]: row[1:] for row in cells}


# --- profile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "macs"),
    [
        ([], XX_SMALL["macs"]["torch_flop_counter_half"]),
        (["--size", "224"], XX_SMALL["macs"]["torch_flop_counter_half_224"]),
    ],
)
def test_a_model_by_name_at_256_or_another_size(size, macs, capsys):
    out = shown(capsys, "profile", "mobilevit_xx_small", *size)
    side = (size or [0, "256"])[1]
    assert out.splitlines()[0].startswith(
        f"mobilevit_xx_small, 1000 classes: {XX_SMALL['n_params']:,} parameters; "
        f"one image of {side}x{side}: {macs:,} multiply-accumulates, "
    )
    table = rows(out)
    assert table["total"][1:3] == [f"{XX_SMALL['n_params']:,}", f"{macs:,}"]
    assert table["stage"][2] == f"MACs at {side}x{side}"
    assert table["layer_5"][0] == f"80x{int(side) // 32}x{int(side) // 32}"
    stages = [row for name, row in table.items() if name not in ("", "stage", "total")]
    for column in (1, 2, 3):
        numbers = [int(row[column].replace(",", "")) for row in stages]
        assert f"{sum(numbers):,}" == table["total"][column]


@pytest.mark.parametrize(
    ("words", "classes", "parameters"),
    [
        (["segmentation/pascal_voc/deeplabv3_mobilevit_xx_small"], 21, 1_854_853),
        (["segmentation/ade20k/pspnet_mobilevit_v2", "--size=64"], 150, 9_910_549),
        # the classes are those of the data, which are not there
        (
            ["segmentation/ade20k/pspnet_mobilevit_v2", "model.segmentation.n_classes=null"],
            150,
            9_910_549,
        ),
    ],
)
def test_a_recipe_of_segmentation_is_counted_whole(words, classes, parameters, capsys):
    """Official counts, auxiliary head included."""
    assert main(["profile", *words, "-q"]) == 0
    out = capsys.readouterr().out
    assert f"{words[0]}, {classes} classes: {parameters:,} parameters; one image of " in out
    assert ("of 64x64: " if "--size=64" in words else "of 512x512: ") in out


def test_the_same_figures_as_json(tmp_path, capsys):
    file = tmp_path / "card.json"
    out = shown(capsys, "profile", "mobilevit_xx_small", "--size=96x64", "--json", file, "-q")
    card = json.loads(file.read_text())
    assert out.count("\n") == 1
    assert f"one image of 96x64: {card['multiply_accumulates']:,} multiply-accumulates" in out
    assert (card["name"], card["classes"], card["size"]) == ("mobilevit_xx_small", 1000, [96, 64])
    assert card["parameters"] == XX_SMALL["n_params"]
    assert [stage["name"] for stage in card["stages"]][:2] == ["conv_1", "layer_1"]
    assert card["stages"][0]["output"] == [16, 48, 32]
    for column in ("parameters", "multiply_accumulates", "activations"):
        assert sum(stage[column] for stage in card["stages"]) == card[column]


def test_a_registered_name_takes_the_options_of_create_model(capsys):
    named = shown(capsys, "profile", "mobilevit", "mode=xx_small", "n-classes=10", "-q")
    variant = shown(capsys, "profile", "mobilevit_xx_small", "n_classes=10", "-q")
    assert named.removeprefix("mobilevit") == variant.removeprefix("mobilevit_xx_small")
    without_990_classes = XX_SMALL["n_params"] - 990 * (320 + 1)
    assert f", 10 classes: {without_990_classes:,} parameters" in named
    dilated = shown(capsys, "profile", "mobilevit", "mode=xx_small", "output_stride=8")
    assert rows(dilated)["layer_5"][0] == "80x32x32"


def test_a_recipe_gives_its_network_its_classes_and_its_size(tmp_path, capsys):
    demo = shown(capsys, "profile", "demo/classification", "-q")
    assert demo.startswith("demo/classification, 1000 classes: 1,272,024 parameters; ")
    assert "one image of 64x64: " in demo
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"common: {{plugins: [{PLUGIN}]}}\n"
        "model: {classification: {name: tiny, n_classes: 7, tiny: {width: 5},"
        " pretrained: nowhere.pt}}\n"
        "sampler: {name: batch_sampler, bs: {crop_size_width: 30, crop_size_height: 15}}\n"
    )
    parameters = 3 * 25 * 5 + 5 + 45 * 7 + 7
    macs = 4 * 9 * 75 * 5 + 45 * 7  # 15x30 pixels, kernel 5, stride 3: 4x9
    out = shown(capsys, "profile", recipe)
    assert out.splitlines()[0].startswith(
        f"{recipe}, 7 classes: {parameters:,} parameters; one image of 15x30: {macs:,} multiply"
    )
    assert rows(out)["0"] == ["5x4x9", "380", f"{4 * 9 * 75 * 5:,}", f"{4 * 9 * 5}"]
    wider = shown(capsys, "profile", recipe, "model.classification.tiny.width=10", "--size", "8x5")
    assert rows(wider)["0"] == ["10x2x1", "760", f"{2 * 75 * 10:,}", "20"]
    assert "MACs at 8x5" in rows(wider)["stage"]


def test_options_alone_are_a_recipe(capsys):
    key = "model.classification"
    out = shown(capsys, "profile", f"--{key}.name", "mobilevit", f"{key}.mit.mode=x_small", "-q")
    assert out.startswith("mobilevit, 1000 classes: 2,317,848 parameters; one image of 256x256: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "cvnets profile: a model or a recipe is needed, e.g. cvnets profile mobilevit_small;"),
        (["mobilevit_xsmall"], "no model or recipe is called 'mobilevit_xsmall' - did you mean mo"),
        (["demo/clasification"], "no model or recipe is called 'demo/clasification' - did you mea"),
        (["mine.yaml"], "mine.yaml: no such recipe here or among the shipped ones - "),
        (["mobilevit", "mod=small"], "mobilevit has no option 'mod' - did you mean mode?"),
        (["mobilevit", "mode=large"], "mobilevit: mode: Input should be "),
        (["mobilevit_small", "n_classes=0"], "mobilevit_small: n_classes is 0; at least one class"),
        (["mobilevit_small", "--size", "0"], "--size: '0' is no image size; give pixels, 256 or "),
        (["mobilevit_small", "--size", "8x"], "--size: '8x' is no image size; give pixels, 256 or"),
        (["mobilevit_small", "--size"], "cvnets profile: argument --size: expected one argument;"),
        (["mobilevit_small", "--json", "no/dir"], "--json: no/dir cannot be written: No such file"),
        (
            ["model.classification.mit.head_dim=17"],
            "command line: model.classification.mit.head_dim: 17 does not divide the width 144",
        ),
    ],
)
def test_mistakes_are_explained_in_one_line(words, line, capsys):
    assert main(["profile", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_help_is_instant():
    code = (
        "import sys; from engine.command_line import main; "
        "main(['profile', '--help']); main(['list', '--help']); "
        "print([name for name in ('torch', 'cvnets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- list models ---------------------------------------------------------------------------------


def test_list_models_shows_variants_with_their_parameters(capsys):
    table = rows(shown(capsys, "list", "models"))
    assert {*VARIANT_NAMES, *CLASSIFIERS.names()} <= set(table)
    assert table["mobilevit_xx_small"] == ["mobilevit mode=xx_small", "1,272,024"]
    sections = [f"model.classification.{key}.*" for key in CLASSIFIERS["mobilevit_v3"].sections]
    assert len(sections) == 2 and set(sections) <= set(table)


def test_list_models_takes_a_pattern(capsys):
    table = rows(shown(capsys, "list", "models", "mobilevit_x*"))
    assert set(table) == {"variant", "mobilevit_x_small", "mobilevit_xx_small"}
    assert "1,272,024" in table["mobilevit_xx_small"]
    table = rows(shown(capsys, "list", "models", "tin?", "--plugins", PLUGIN))
    assert {"tiny", "model.classification.tiny.*"} <= set(table)
    assert "variant" not in table


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("timm/*mobile*", "timm/mobilenetv3_small_100"), ("torchvision/vit*", "torchvision/vit_b_16")],
)
def test_list_models_names_the_networks_of_other_libraries(pattern, name, capsys):
    library = pattern.partition("/")[0]
    pytest.importorskip(library)
    importlib.import_module(f"cvnets.models.classification.{library}_networks")
    names = shown(capsys, "list", "models", pattern).splitlines()
    assert name in names
    assert all(fnmatchcase(found, pattern) for found in names)
    card = shown(capsys, "profile", name, "n_classes=10", "--size", "224", "-q")
    assert f"{name}, 10 classes: " in card


def test_list_models_says_that_a_library_is_missing(monkeypatch, capsys):
    importlib.import_module("cvnets.models.classification.timm_networks")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main(["list", "models", "timm/*"]) == 2
    assert capsys.readouterr().err == (
        "cvnets list models: timm is not installed; pip install timm\n"
    )


def test_list_models_without_a_match(capsys):
    assert main(["list", "models", "mobilevit_smal"]) == 2
    assert capsys.readouterr().err == (
        "cvnets list models: no name matches 'mobilevit_smal' - "
        "did you mean mobilevit_small or mobilevit_x_small?\n"
    )
    assert main(["list", "samplers", "v*"]) == 2
    assert (
        capsys.readouterr().err
        == "cvnets list samplers: takes no pattern, only models and weights do\n"
    )
