"""The example package as a user has it: installed, trained, listed, explained, mistaken."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cvnets
from cvnets.layers.style import LayerStyle
from engine import load_recipe
from engine.command_line import main
from engine.commands.list import registries
from engine.reading import find_recipe

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "plugin"
NAMES = {  # kind -> name and sub-section
    "models": ("tiny_net", "model.classification.tiny_net"),
    "datasets": ("tiny_folders", "dataset.tiny_folders"),
    "transforms": ("tiny_noise", "image_augmentation.tiny_noise"),
    "samplers": ("tiny_growing", "sampler.tiny_growing"),
    "losses": ("tiny_focal", "loss.classification.tiny_focal"),
    "optimizers": ("tiny_rmsprop", "optim.tiny_rmsprop"),
    "schedules": ("tiny_steps", "scheduler.tiny_steps"),
    "metrics": ("tiny_recall", "stats.tiny_recall"),
    "observers": ("tiny_table", "common.tiny_table"),
}
QUICK = [
    "dataset.workers=0",
    "common.device=cpu",
    "scheduler.max_epochs=2",
    "scheduler.tiny_steps.drops=1",
    "scheduler.warmup_iterations=2",
    "sampler.tiny_growing.smallest=24",
    "sampler.tiny_growing.largest=32",
    "image_augmentation.resize.size=32",
    "image_augmentation.center_crop.size=32",
    "dataset.train_batch_size0=8",
    "dataset.tiny_folders.per_class=20",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that the package is installed into, from a copy: a build leaves files behind."""
    copy = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(copy)]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)
    return target


@pytest.fixture
def workplace(tmp_path, image_folder) -> Path:
    """A folder with the recipe of the package and the images that it names."""
    shutil.copy(EXAMPLE / "recipe.yaml", tmp_path)
    (tmp_path / "shapes").symlink_to(image_folder)
    return tmp_path


@pytest.fixture
def cvnets_command(command, site, workplace):
    """Run `cvnets ...` where the package is installed."""

    def run(*words, **more):
        path = f"{ROOT}:{site}"
        return command(*words, cwd=workplace, env={"PYTHONPATH": path}, **more)

    return run


@pytest.fixture
def installed(site, monkeypatch):
    """The package is installed in this process, too; afterwards it is not, and is forgotten."""
    for registry in registries().values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.syspath_prepend(site)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "tiny_plugin"]:
        del sys.modules[name]


# --- training ------------------------------------------------------------------------------------


def history(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_the_recipe_trains_and_every_component_takes_part(cvnets_command, workplace):
    done = cvnets_command("train", "recipe.yaml", *QUICK)
    folder = workplace / "results/tiny"
    assert "images grow from 24 to 32 pixels" in done.stdout
    assert "60 training images" in done.stdout  # 20 of each of 3 classes
    steps, evaluations = history(folder, "step"), history(folder, "evaluation")
    assert [step["size"] for step in steps] == [[24, 24], [26, 26]]  # the last of each epoch
    assert [step["lr"] for step in steps] == [2e-3, 2e-4]
    rows = list(csv.reader((folder / "table.csv").read_text().splitlines()))
    assert [row[:2] for row in rows] == [["Train", "0"], ["Val", "0"], ["Train", "1"], ["Val", "1"]]
    values = [r["metrics"] for r in evaluations if r["stage"] == "Val"]
    assert [list(map(float, row[2:])) for row in rows[1::2]] == [list(v.values()) for v in values]
    # the held-out classes have 11 images each, so the mean over classes is the mean over images
    assert all(v["tiny_recall"] == pytest.approx(v["top1"]) for v in values)
    assert all(v["tiny_recall.worst"] <= v["tiny_recall"] for v in values)
    state = torch.load(folder / "training_checkpoint_last.pt", weights_only=True)
    assert state["optim_state_dict"]["param_groups"][0]["alpha"] == 0.99
    assert {"square_avg", "momentum_buffer"} <= set(state["optim_state_dict"]["state"][0])
    weights = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    assert weights["layer_5.pointwise.block.conv.weight"].shape == (96, 64, 1, 1)
    stored = (folder / "config.yaml").read_text()
    for _, section in NAMES.values():
        assert re.search(rf"^ +{section.rpartition('.')[2]}:$", stored, re.M), section
    report = cvnets_command("eval", folder / "checkpoint_best.pt", "common.run_label=eval").stdout
    assert "33 images" in report
    found = json.loads(
        (workplace / "results/eval/evaluations/checkpoint_best/evaluation.json").read_text()
    )["metrics"]
    best = json.loads((folder / "summary.json").read_text())
    assert {name: best[name] for name in found} == found


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(cvnets_command, workplace):
    words = [*QUICK, "scheduler.max_epochs=3", "common.log_freq=1"]
    # each process sees a part of the 11 images of a class, too few to count without the other's
    words += ["dataset.val_batch_size0=4", "stats.tiny_recall.at_least=11"]
    cvnets_command("train", "recipe.yaml", *words, "common.run_label=two", processes=2)
    one = [*words, "common.run_label=one", "common.accum_freq=2"]
    cvnets_command("train", "recipe.yaml", *one)
    results = workplace / "results"
    first, second = (history(results / run, "step") for run in ("one", "two"))
    assert len(first) == len(second) >= 6
    for a, b in zip(first, second, strict=True):
        assert (a["size"], a["lr"]) == (b["size"], b["lr"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert len((results / "two/table.csv").read_text().splitlines()) == 6
    weights = results / "two/checkpoint_best.pt"
    cvnets_command("eval", weights, "common.run_label=eval", "dataset.eval_batch_size0=4")
    found = json.loads((results / "eval/evaluations/checkpoint_best/evaluation.json").read_text())[
        "metrics"
    ]
    best = json.loads((results / "two/summary.json").read_text())
    assert {name: best[name] for name in found} == found  # two processes count what one counts


def test_its_own_tests_pass(site):
    words = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    done = subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{site}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=site,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_of_its_readme(cvnets_command, workplace):
    install, *lines, tests = [
        line
        for block in re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.S)
        for line in block.splitlines()
    ]
    assert (install, tests) == ("pip install .", "python -m pytest tests")  # as above
    assert lines[3:] == [  # as above
        "cvnets train recipe.yaml",
        "torchrun --nproc-per-node 2 -m main_train recipe.yaml common.run_label=two",
        "cvnets eval results/tiny/checkpoint_best.pt",
    ]
    (workplace / "shapes").unlink()
    for line, small in zip(lines[:3], ([], [], ["--train", "8", "--val", "8"]), strict=True):
        program, *words = shlex.split(line)
        assert program == "cvnets"
        assert cvnets_command(*words, *small).stdout
    assert (workplace / "shapes/train/star").is_dir()


# --- list, explain, mistakes ---------------------------------------------------------------------


def test_list_shows_each_component_and_where_its_options_stand(installed, capsys):
    of_detection = {"detectors", "anchor_generators", "matchers"}
    of_detection |= {"detection_datasets", "detection_losses"}
    of_segmentation = {"segmentors", "segmentation_heads"}
    of_segmentation |= {"segmentation_datasets", "segmentation_losses"}
    others = {"tasks", "distillation_losses"} | of_detection | of_segmentation
    assert set(NAMES) == set(registries()) - others
    for kind, (name, section) in NAMES.items():
        assert main(["list", kind]) == 0
        rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
        cells = [[cell.strip() for cell in row] for row in rows]
        (place,) = [n for n, cell in enumerate(cells) if cell[1:2] == [name]]
        assert len(cells[place][2]) > 5  # what it is
        assert cells[place + 1][1] == f"{section}.*"


@pytest.mark.parametrize("kind", NAMES)
def test_explain_shows_each_option(kind, installed, capsys):
    _, section = NAMES[kind]
    assert main(["explain", section]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{section}: options of ")
    keys = [line.strip().partition(": ")[0] for line in lines]
    assert keys
    for key in keys:
        assert main(["explain", key, str(EXAMPLE / "recipe.yaml")]) == 0
        name, meaning, kind_of_value, default, value = capsys.readouterr().out.splitlines()
        assert name == key
        assert len(meaning.removeprefix("  meaning: ")) > 5
        assert re.match(r"  type:    (bool|int|float|str|list of (int|str))(, |$)", kind_of_value)
        assert default.startswith("  default: ")
        assert re.search(r", from (the default|.*recipe\.yaml:\d+)$", value)


MISTAKES = [
    ("width: 16", "widht: 16", "tiny_net.widht: unknown key - did you mean width?"),
    ("width: 16", "width: 0", "tiny_net.width: must be at least 1 ('0' given)"),
    ("name: tiny_net", "name: tiny_nat", "name: no classification model is called 'tiny_nat' - "
     "did you mean tiny_net"),
    ("per_class: 400", "per_class: all", "per_class: a whole number is expected ('all' given)"),
    ("share: 0.02", "share: 2%", "tiny_noise.share: a number is expected ('2%' given)"),
    ("tiny_noise:", "tiny_nose:", "image_augmentation.tiny_nose: unknown key - did you mean "
     "tiny_noise or gaussian_noise?"),
    ("smallest: 48", "smallest: 80", "tiny_growing.smallest: 80 is above largest = 64; lower it"),
    ("gamma: 1", "gamma: -1", "tiny_focal.gamma: must be at least 0 ('-1' given)"),
    ("momentum: 0.9", "momentum: 1.0", "tiny_rmsprop.momentum: must be below 1 ('1.0' given)"),
    ("drops: 6", "drops: [6, x]", "tiny_steps.drops: a whole number is expected ('x' given)"),
    ("at_least: 5", "atleast: 5", "tiny_recall.atleast: unknown key - did you mean at_least?"),
    ("top1, tiny_recall]", "top1, tiny_recal]", "stats.val: no metric is called 'tiny_recal' - did "
     "you mean tiny_recall? (one of your own: see common.plugins)"),
    ("observers: tiny_table", "observers: tiny_tabel", "common.observers: no observer is called "
     "'tiny_tabel' - did you mean tiny_table? (one of your own: see common.plugins)"),
    ("stages: [Train, Val]", "stage: Val", "tiny_table.stage: unknown key - did you mean stages?"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "text"), MISTAKES, ids=lambda value: value[:18])
def test_a_mistake_in_its_options_has_a_line_and_a_suggestion(
    right, wrong, text, installed, tmp_path, capsys
):
    recipe = (EXAMPLE / "recipe.yaml").read_text()
    assert recipe.count(right) == 1
    line = recipe[: recipe.index(right)].count("\n") + 1
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.replace(right, wrong))
    assert main(["train", str(path)]) == 2
    found = capsys.readouterr().err.splitlines()
    assert found[0].startswith(f"{path}:{line}: ")
    assert text in found[0]


def test_without_the_package_its_names_are_unknown():
    assert "tiny_plugin" not in sys.modules
    assert "tiny_net" not in cvnets.list_models()
    assert find_recipe(EXAMPLE / "recipe.yaml").is_file()


# --- the backbone --------------------------------------------------------------------------------


@pytest.fixture
def backbone(installed):
    """Makes the network of the recipe; whatever is built on a backbone starts from here."""
    load_recipe(EXAMPLE / "recipe.yaml")  # imports the package

    def make(**more) -> cvnets.models.encoder.ImageEncoder:
        torch.manual_seed(0)
        return cvnets.create_model("tiny_net", width=4, n_classes=3, **more)

    return make


PYRAMID = {  # output stride -> stride of each level
    None: {"l1": 2, "l2": 4, "l3": 8, "l4": 16, "l5": 32, "l5_exp": 32},
    16: {"l1": 2, "l2": 4, "l3": 8, "l4": 16, "l5": 16, "l5_exp": 16},
    8: {"l1": 2, "l2": 4, "l3": 8, "l4": 8, "l5": 8, "l5_exp": 8},
}


@pytest.mark.parametrize("output_stride", PYRAMID)
def test_its_features_have_the_levels_strides_and_channels_of_the_pyramid(output_stride, backbone):
    network = backbone(output_stride=output_stride)
    strides = PYRAMID[output_stride]
    assert network.strides == strides
    maps = network.features(torch.rand(2, 3, 96, 64))
    assert {level: tuple(value.shape) for level, value in maps.items()} == {
        level: (2, network.channels[level], 96 // stride, 64 // stride)
        for level, stride in strides.items()
    }
    odd = network.features(torch.rand(1, 3, 75, 50), levels=["l3"])["l3"]
    assert odd.shape[2:] == (-(-75 // 8), -(-50 // 8))  # rounded up
    assert network(torch.rand(2, 3, 96, 64)).shape == (2, 3)


@pytest.mark.parametrize("levels", [["l1"], ["l2", "l5"], ["l3", "l4", "l5"], ["l2", "l5_exp"]])
def test_every_parameter_of_its_backbone_gets_a_gradient(levels, backbone):
    network = backbone().as_backbone(levels)
    maps = network.features(torch.rand(2, 3, 64, 64))
    assert list(maps) == levels
    sum(value.square().mean() for value in maps.values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert all(p.grad.abs().sum() > 0 for name, p in network.named_parameters() if "conv" in name)
    assert network.classifier is None


def test_dilation_keeps_what_the_backbone_sees(backbone):
    """One pixel of l5 depends on the same part of the image, however its resolution is kept."""
    seen = []
    for output_stride in (None, 16, 8):
        smooth = LayerStyle().with_activation("swish")  # whose gradient is nowhere zero
        network = backbone(output_stride=output_stride, style=smooth).double().eval()
        image = torch.zeros(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
        level = network.features(image, levels=["l5"])["l5"]
        half = 128 // network.strides["l5"]
        level[0, :, half, half].sum().backward()
        rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        seen.append((int(rows[0]), int(rows[-1])))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1] - seen[0][0] + 1 == 3 + 2 * (1 * 2 + 2 + 4 + 8 + 16)


# --- under a detector ----------------------------------------------------------------------------


def test_its_backbone_trains_under_ssdlite_in_two_processes(
    cvnets_command, workplace, detection_recipe, words
):
    (workplace / "empty.yaml").write_text("")
    recipe = {k: v for k, v in detection_recipe.items() if "mobilenetv1" not in k}
    recipe |= {"common.results_loc": "results", "model.classification.name": "tiny_net"}
    recipe |= {"model.classification.tiny_net.width": 4, "model.detection.output_stride": 16}
    done = cvnets_command("train", "empty.yaml", *words(recipe), processes=2)
    assert "2 process(es)" in done.stdout
    assert "evaluated 19 of 19 unique images" in done.stdout
    summary = json.loads((workplace / "results/run/summary.json").read_text())
    assert summary["epochs"] == 2
    assert 0 < summary["last"]["val.loss"] < summary["last"]["train.loss"] * 10
    state = torch.load(workplace / "results/run/checkpoint_last.pt", weights_only=True)
    assert not [key for key in state if key.startswith(("encoder.classifier", "encoder.conv_1x1"))]
    assert [key for key in state if key.startswith("encoder.layer_5.")]
