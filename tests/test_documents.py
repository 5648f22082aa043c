"""Every command of the README and the docs works, and every link leads somewhere."""

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import cvnets
from engine.command_line import main
from engine.commands.list import registries

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += sorted((ROOT / "examples").rglob("*.md"))
# shortened for the test: fewer epochs, smaller images
QUICK = ["dataset.workers=0", "scheduler.max_epochs=1", "common.device=cpu"]
QUICK += ["image_augmentation.resize.size=64", "image_augmentation.center_crop.size=64"]
SMALL = [
    f"sampler.vbs.{which}crop_size_{side}=64"
    for which in ("", "min_", "max_")
    for side in ("width", "height")
]


def commands(path, language="sh"):
    """The commands of a document's code blocks, continuation lines joined."""
    blocks = re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.S)
    return [
        line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()
    ]


SMALL += ["sampler.bs.crop_size_width=64", "sampler.bs.crop_size_height=64"]


@pytest.fixture
def workplace(tmp_path, image_folder, coco_folder, monkeypatch):
    """A folder with the user's images, those of a data set in COCO layout among them, and a cache
    where the weights that are fetched by name lie already."""
    monkeypatch.setenv("CVNETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    for name in ("mobilevit_xx_small", "mobilevit_v2_0.5"):
        torch.save(cvnets.create_model(name).state_dict(), tmp_path / f"cache/{name}.pt")
    (tmp_path / "fruit").mkdir()
    shutil.copytree(coco_folder / "annotations", tmp_path / "fruit/annotations")
    for split in ("train", "val"):
        shutil.copytree(coco_folder / f"{split}2017", tmp_path / f"fruit/images/{split}2017")
    for split in ("train", "val"):
        shutil.copytree(image_folder / split, tmp_path / "flowers" / split)
        shutil.copytree(image_folder / split, tmp_path / "results/shapes" / split)
    return tmp_path


@pytest.fixture
def here(workplace, monkeypatch, capsys):
    """Run `cvnets ...` in the workplace, in this process; gives what it prints."""
    monkeypatch.chdir(workplace)

    def run(*words) -> str:
        code = main([str(word) for word in words])
        done = capsys.readouterr()
        assert code == 0, done.out + done.err
        return done.out

    return run


def test_commands_of_the_readme(workplace, command, here):
    ran = []
    for line in commands(ROOT / "README.md"):
        words = shlex.split(line)
        if words[0] == "make" or words[:2] == ["pip", "install"]:
            continue  # .ci/run itself is made of these
        if words[0] == "torchrun":
            arguments = words[words.index("main_train.py") + 1 :]
            config = arguments.index("config/demo/classification.yaml")
            arguments[config] = str(ROOT / arguments[config])
            arguments[arguments.index("scheduler.max_epochs=20")] = "scheduler.max_epochs=1"
            command("train", *arguments, "dataset.train_batch_size0=4", cwd=workplace, processes=2)
        elif words[:2] in (["cvnets", "train"], ["cvnets", "check"]):
            here(*words[1:], *QUICK, *SMALL)
        else:
            assert words[0] == "cvnets", line
            assert here(*words[1:])
        ran.append(words[1])
    assert {"train", "eval", "list", "explain", "check", "predict"} <= set(ran)
    assert len(list((workplace / "found").iterdir())) == 19


OWN_DATA = ROOT / "docs/own_data.md"


def test_commands_for_a_folder_of_ones_own_images(workplace, here):
    """In order: the last one finds the run of the first finished."""
    shutil.copytree(workplace / "flowers/train", workplace / "photos")
    rows = [
        f"{path.relative_to(workplace / 'photos')},{path.parent.name}"
        for path in sorted((workplace / "photos").rglob("*.jpg"))
    ]
    (workplace / "photos/labels.csv").write_text("\n".join(["file,label", *rows]))
    page = OWN_DATA.read_text().partition("## Labels of boxes")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", page, flags=re.S)
    for line in block.splitlines():
        words = shlex.split(line)
        quick = [] if "results/flowers/recipe.yaml" in words else [*QUICK, *SMALL]
        assert "done: " in here(*words[1:], *quick)
    runs = ("flowers", "flowers_v2", "photos")
    assert all((workplace / f"results/{run}/recipe.yaml").is_file() for run in runs)


def test_recipe_and_commands_for_own_detection_data(workplace, here):
    """The recipe as it stands on the page, for two categories; its weights are a file here."""
    for path in (workplace / "fruit/annotations").iterdir():
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 5, "name": "apple"}, {"id": 9, "name": "pear"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 5 if annotation["category_id"] < 8 else 9
        path.write_text(json.dumps(content))
    page = OWN_DATA.read_text().partition("## Train on it")[2]
    (recipe,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    assert "pretrained: mobilevit_xx_small" in recipe
    weights = cvnets.create_model("mobilevit_xx_small", n_classes=3).state_dict()
    torch.save(weights, workplace / "mobilevit_xxs.pt")
    (workplace / "fruit.yaml").write_text(
        recipe.replace("pretrained: mobilevit_xx_small", "pretrained: mobilevit_xxs.pt")
    )
    lines = [shlex.split(line) for line in commands(OWN_DATA) if "fruit.yaml" in line]
    lines += [shlex.split(line) for line in commands(OWN_DATA) if "results/fruit" in line]
    assert [words[1] for words in lines] == ["check", "train", "eval", "predict"]
    source = ["model.weights_source=cvnets-v0.1"]
    for words in lines:
        quick = [*QUICK, *SMALL, *source] if words[1] in ("check", "train") else []
        assert here(*words[1:], *quick)
    names = (workplace / "results/fruit/best/per_class.csv").read_text()
    assert "apple" in names
    assert "pear" in names
    assert len(list((workplace / "found").iterdir())) == 19


DENSE = [
    "dataset.train_batch_size0=4",
    "model.classification.pretrained=null",
    "expected.effective_batch=null",
    "common.log_freq=1",
    *(f"image_augmentation.random_short_size_resize.short_side_{end}=64" for end in ("min", "max")),
]


@pytest.mark.parametrize(
    ("page", "root", "quick"),
    [
        ("detection.md", "COCO", ["model.detection.n_classes=null"]),
        ("segmentation.md", "VOCdevkit", ["model.classification.mit.mode=xx_small"]),
    ],
)
def test_commands_of_the_page_on(page, root, quick, workplace, here, voc_folder):
    """On generated data where the real ones are named, one epoch at 64 pixels."""
    (workplace / "fruit").rename(workplace / "COCO")
    shutil.copytree(voc_folder, workplace / "VOCdevkit")
    pictures = workplace / "COCO/images/val2017"
    shutil.copytree(pictures, workplace / "photos")
    lines = [shlex.split(line) for line in commands(ROOT / "docs" / page)]
    assert [words[1] for words in lines] == ["check", "train", "eval", "predict"]
    for words in lines:
        short = words[1] in ("check", "train")
        assert here(*words[1:], *([*QUICK, *SMALL, *DENSE, *quick] if short else []))
    assert len(list((workplace / "found").iterdir())) == 19


def test_python_of_the_readme(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    quick = '"dataset.workers=0", "common.device=cpu", "scheduler.max_epochs=1"'
    names = {}
    exec(block.replace('"scheduler.max_epochs=1"', quick), names)
    assert names["model"].classifier.fc.out_features == 10
    assert 0 <= names["summary"]["top1"] <= 100


def test_python_of_its_page(workplace, monkeypatch):
    """The blocks one after the other, with two epochs at 32 pixels in place of five at 256."""
    monkeypatch.chdir(workplace)
    small = '"sampler.bs": {"crop_size_width": 32, "crop_size_height": 32}, "dataset.workers": 0, '
    names = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), flags=re.S
    ):
        block = block.replace('"scheduler.max_epochs": 5', small + '"scheduler.max_epochs": 1')
        exec(block.replace("daisy/1.jpg", "across/001.jpg"), names)
    assert names["logits"].shape == (2, 10)
    assert names["report"].share == 1
    assert names["card"].parameters == 1_272_024
    assert set(names["found"].probabilities) == {"across", "down", "slant"}
    assert sum(names["found"].probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_commands_of_the_page_on_weights(workplace, here):
    """In order: the converted file of the second command is what the others convert."""
    weights = cvnets.create_model("mobilevit_xx_small", n_classes=3).state_dict()
    torch.save(weights, workplace / "mobilevit_xxs.pt")
    lines = [shlex.split(line) for line in commands(ROOT / "docs/weights.md")]
    for words in lines:
        assert words[0] == "cvnets"
        quick = [*QUICK, *SMALL] if words[1] == "train" else []
        quick += ["--size", "32"] if words[1] == "check" else []
        here(*words[1:], *quick)
    assert [words[1] for words in lines] == ["train", "check", *["convert"] * 4]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_exist(path):
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / link).exists(), link
    for name in re.findall(
        r"`((?:config|cvnets|data|docs|engine|loss_fn|optim|tests)/[\w/.]+)`", text
    ):
        assert (ROOT / name).exists(), name


PLUGINS = ROOT / "docs/plugins.md"


def blocks(language):
    """The code blocks of the page on plugins."""
    return re.findall(rf"```{language}\n(.*?)```", PLUGINS.read_text(), flags=re.S)


def test_parts_recipe_and_commands_of_the_page_on_plugins(workplace, command):
    (workplace / "my_parts.py").write_text(blocks("python")[0])
    (workplace / "my_recipe.yaml").write_text(blocks("yaml")[0])
    for line in commands(PLUGINS):
        words = shlex.split(line)
        assert words[0] == "cvnets"
        quick = ["dataset.workers=0", "common.device=cpu"] if words[1] == "train" else []
        out = command(*words[1:], *quick, cwd=workplace).stdout
        expected = {"list": "my_dusk", "explain": "0.3, from my_recipe.yaml:", "eval": "33 images"}
        assert expected.get(words[1], "done: ") in out
    stored = (workplace / "results/mine/config.yaml").read_text()
    assert re.search(r"  my_dusk:\n    enable: true  # my_recipe.yaml:\d+\n    most: 0.3", stored)


def test_the_table_of_kinds_is_what_the_registries_say():
    rows = re.findall(
        r"^\| `(\w+)` \| `([\w.]+)` \| `([\w.*]+)` \|(.*?)\|", PLUGINS.read_text(), re.M
    )
    known = registries()
    assert {row[0] for row in rows} == set(known)
    for kind, place, section, context in rows:
        module, _, name = place.rpartition(".")
        assert getattr(importlib.import_module(module), name) is known[kind]
        assert section == known[kind].section_key
        assert re.findall(r"\w+", context) == list(known[kind].context)
