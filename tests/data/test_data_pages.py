"""The pages on data of classification and on samplers: their commands run, their recipe is one."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import cvnets
from data.datasets.classification.imagenet_variants import ImageNetV2
from data.datasets.shapes import generate
from data.kinds import SAMPLERS
from engine.command_line import main
from engine.reading import load_recipe

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUICK = ["dataset.workers=0", "dataset.train_batch_size0=4", "scheduler.max_epochs=1"]
QUICK += ["common.device=cpu", "common.auto_resume=false"]
SMALL = ["image_augmentation.resize.size=64", "image_augmentation.center_crop.size=64"]
SMALL += ["sampler.bs.crop_size_width=64", "sampler.bs.crop_size_height=64"]
SMALL += [
    f"sampler.vbs.{which}crop_size_{side}=64"
    for which in ("", "min_", "max_")
    for side in ("width", "height")
]
WEIGHTS = {
    "mobilevit_xx_small": "cvnets-v0.1",
    "mobilevit_v2_1.0": "auto",
    "mobilevit_v2_2.0": "auto",
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Images of shapes at every layout of the page, and files in place of the named weights."""
    monkeypatch.chdir(tmp_path)
    generate("imagefolder", Path("shapes"), train=16, val=8, seed=1, size=48)
    for name in ("imagenet", "imagenet21k", "places365"):
        shutil.copytree("shapes", name)
    for number, folder in enumerate(sorted(Path("shapes/val").iterdir())):
        v2 = Path("imagenetv2", ImageNetV2.unpacked["threshold-0.7"], str(number))
        synset = ("n01440764", "n01498041")[number % 2]
        for target in (Path("sketch", synset), Path("imagenet-a", synset), v2):
            shutil.copytree(folder, target, dirs_exist_ok=True)
    pets = Path("pets/oxford-iiit-pet")
    for folder in ("images", "annotations"):
        (pets / folder).mkdir(parents=True)
    for split in ("trainval", "test"):
        names = [f"{breed}_{number}" for breed in ("a_cat", "b_dog") for number in range(4)]
        lines = [f"{name} {1 + (name[0] == 'b')} 1 1\n" for name in names]
        (pets / f"annotations/{split}.txt").write_text("".join(lines))
        for name in names:
            Image.new("RGB", (40, 30), "teal").save(pets / f"images/{name}.jpg")
    for name in WEIGHTS:
        torch.save(cvnets.create_model(name, n_classes=1000).state_dict(), f"{name}.pt")
    return tmp_path


def commands():
    blocks = re.findall(
        r"```sh\n(.*?)```", (DOCS / "classification_data.md").read_text(), flags=re.S
    )
    joined = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in joined if line.strip()]


@pytest.mark.slow
def test_commands_of_the_page_on_data(workplace, capsys):
    """One epoch at 64 pixels; that of CIFAR stands beside the fake of its files."""
    for words in commands():
        assert words[0] == "cvnets"
        if "dataset.name=cifar10" in words:
            continue
        name = "mobilevit_v2_2.0" if "imagenet_21k" in words[2] else "mobilevit_v2_1.0"
        name = "mobilevit_xx_small" if "/imagenet/" in words[2] else name
        words = [word for word in words if not word.startswith("model.classification.pretrained")]
        quick = [*QUICK, *SMALL, f"model.weights_source={WEIGHTS[name]}"]
        if words[1] != "check":
            quick += [f"model.classification.pretrained={name}.pt"]
        code = main([*words[1:], *quick])
        done = capsys.readouterr()
        assert code == 0, done.out + done.err
    assert [words[1] for words in commands()] == ["check", *["eval"] * 3, *["train"] * 4]


def test_the_chain_of_the_page_is_a_recipe():
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "samplers.md").read_text(), flags=re.S)
    recipe = load_recipe(yaml.safe_load(block))
    sampler = SAMPLERS.build(recipe.sampler, batch_size=32)
    assert sampler.sizes(0) == [(48, 48, 56), (64, 64, 16), (64, 64, 32), (80, 80, 20)]
