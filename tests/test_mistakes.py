"""What a user's mistakes print: one line each, exit code 2, no traceback.

The lines stand in docs/mistakes.md, for people; here is how each mistake is made. After a change
`PYTHONPATH=. python tests/test_mistakes.py` writes that page anew: read what has changed in it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

import cvnets
from data.datasets.shapes import generate
from engine.command_line import main

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs/mistakes.md"
PLUGIN = ROOT / "tests/plugins/tiny_models.py"
RECIPE = f"""\
common:
  plugins: {PLUGIN}
  run_label: run
  device: cpu
  tensorboard_logging: false
dataset:
  root_train: data/train
  root_val: data/val
  train_batch_size0: 4
  val_batch_size0: 4
  eval_batch_size0: 4
  workers: 0
sampler:
  bs:
    crop_size_width: 24
    crop_size_height: 24
model:
  classification:
    name: tiny
optim:
  name: adamw
scheduler:
  max_epochs: 1
  cosine:
    max_lr: 1e-2
    min_lr: 1e-4
stats:
  val: [loss, top1]
  checkpoint_metric: top1
  checkpoint_metric_max: true
"""
DETECTION = """\
common:
  run_label: run
  device: cpu
  tensorboard_logging: false
dataset:
  root_train: coco
  root_val: coco
  name: coco_ssd
  category: detection
  train_batch_size0: 2
  val_batch_size0: 2
  workers: 0
sampler:
  bs:
    crop_size_width: 64
    crop_size_height: 64
model:
  classification:
    name: mobilenetv1
    mobilenetv1:
      width_multiplier: 0.25
  detection:
    name: ssd
scheduler:
  max_epochs: 1
stats:
  val: [loss, coco_map]
"""
Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A mistake, and how it is made.

    `change` is what replaces what in recipe.yaml; `prepare` gets the folder that holds it and
    data/; `words` are the command. `after_run`: a training has been finished there before.
    `late`: it shows in training, when the run folder exists. `patch`: what ails the machine.
    """

    title: str
    change: tuple[str, str] = ("", "")
    words: str = "train recipe.yaml"
    prepare: Prepare = lambda folder: None
    after_run: bool = False
    late: bool = False
    patch: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def images(folder: Path, classes: tuple[str, ...], count: int) -> None:
    """`count` images of 24x24 per class, brighter from class to class."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.full((24, 24, 3), 40 + 60 * number + i, np.uint8)
            cv2.imwrite(str(folder / name / f"{i}.jpg"), pixels)


def write(name: str, content: str | bytes) -> Prepare:
    def run(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return run


def cut(name: str, share: float) -> Prepare:
    def run(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return run


def remove(name: str) -> Prepare:
    def run(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return run


def make(name: str) -> Prepare:
    return lambda folder: (folder / name).mkdir(parents=True)


def save(name: str, content: object) -> Prepare:
    return lambda folder: torch.save(content, folder / name)


def all_of(*steps: Prepare) -> Prepare:
    return lambda folder: [step(folder) for step in steps]


def network(change: Callable[[dict], object] = lambda state: None, prefix: str = "") -> Prepare:
    """Save the entries of MobileViT-XXS as w.pt, after a change."""

    def run(folder: Path) -> None:
        state = cvnets.create_model("mobilevit_xx_small", n_classes=3).state_dict()
        change(state)
        torch.save({prefix + key: value for key, value in state.items()}, folder / "w.pt")

    return run


def without(*names: str) -> Callable[[dict], object]:
    """Take out all entries that begin so."""
    return lambda state: [state.pop(key) for key in list(state) if key.startswith(names)]


def normalised(folder: Path) -> None:
    """Save weights of the tiny network that were trained on normalised images."""
    weights = torch.load(folder / WEIGHTS, weights_only=True)
    about = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "channel_order": "RGB"}
    weights._metadata["cvnets"] = {"format": 2, "preprocessing": about}
    torch.save(weights, folder / "w.pt")


class RunsCode:
    """What a hostile file holds: unpickling it would call os.system."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


def png(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "data/val/a/0.png"), pixels)
    (folder / "data/val/a/0.jpg").unlink()


def disk_full() -> contextlib.AbstractContextManager:
    """The disk is full when the training state is flushed."""
    flush = os.fsync

    def fsync(number: int) -> None:
        if "training_checkpoint_last.pt" in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(number)

    return mock.patch("os.fsync", fsync)


def without_gpu() -> contextlib.AbstractContextManager:
    return mock.patch("torch.cuda.device_count", return_value=0)


def coco(change: Callable[[dict], object] = lambda content: None) -> Prepare:
    """detection.yaml and its data; `change` alters the annotations of the training split."""

    def run(folder: Path) -> None:
        (folder / "detection.yaml").write_text(DETECTION)
        generate("coco", folder / "coco", train=4, val=2, size=64)
        path = folder / "coco/annotations/instances_train2017.json"
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return run


def first_annotation(**values: object) -> Prepare:
    return coco(lambda content: content["annotations"][0].update(values))


DETECT = "train detection.yaml"
WEIGHTS = "results/run/checkpoint_best.pt"
EVAL = f"eval recipe.yaml model.classification.pretrained={WEIGHTS}"
MIT = (
    "eval recipe.yaml model.classification.name=mobilevit model.classification.mit.mode=xx_small "
    "model.classification.pretrained=w.pt"
)
AGAIN = "train recipe.yaml common.auto_resume=true"
JPEG = "data/val/a/0.jpg"

CASES = {
    "In the recipe": [
        Case("a misspelt key", ("max_epochs", "max_epoch")),
        Case("a misspelt section", ("scheduler:", "schedular:")),
        Case("a key in the wrong section", ("name: adamw", "name: adamw\n  max_epochs: 5")),
        Case("a misspelt model", ("name: tiny", "name: mobilevitt")),
        Case("a misspelt optimizer", ("name: adamw", "name: adam")),
        Case("a word for a number", ("max_lr: 1e-2", "max_lr: high")),
        Case("a fraction for a whole number", ("max_epochs: 1", "max_epochs: 1.5")),
        Case("true for a number", ("workers: 0", "workers: true")),
        Case(
            "a number for true or false", ("tensorboard_logging: false", "tensorboard_logging: 0")
        ),
        Case("nothing for a number", ("max_epochs: 1", "max_epochs: 1\n  warmup_init_lr:")),
        Case("a number that is too small", ("train_batch_size0: 4", "train_batch_size0: 0")),
        Case("a number that is too large", ("name: adamw", "adamw: {beta2: 1.0}")),
        Case("infinity", ("name: adamw", "weight_decay: .inf")),
        Case("no choice of these", ("device: cpu", "mixed_precision_dtype: float8")),
        Case("no such kind of device", ("device: cpu", "device: gpu")),
        Case(
            "three values where two belong",
            ("model:", "image_augmentation.resize.size: [1, 2, 3]\nmodel:"),
        ),
        Case("a value where a section belongs", ("optim:\n  name: adamw", "optim: adamw")),
        Case("a key given twice", ("max_epochs: 1", "max_epochs: 1\n  max_epochs: 2")),
        Case("a section given twice", ("stats:", "model:\n  layer: {}\nstats:")),
        Case("smallest above largest", ("  bs:", "  msc: {min_crop_size_width: 400}\n  bs:")),
        Case("lowest rate above the highest", ("min_lr: 1e-4", "min_lr: 1e-1")),
        Case(
            "a warm-up longer than the run",
            (
                "max_epochs: 1",
                "is_iteration_based: true\n  max_iterations: 50\n  warmup_iterations: 100",
            ),
        ),
        Case("iterations of a run that counts epochs", ("max_epochs: 1", "max_iterations: 50")),
        Case(
            "a fixed schedule without its rate", ("max_epochs: 1", "max_epochs: 1\n  name: fixed")
        ),
        Case("an unknown metric", ("val: [loss, top1]", "val: [loss, top1, top3]")),
        Case("a checkpoint metric that is not measured", ("val: [loss, top1]", "val: [loss]")),
        Case("an unknown observer", ("run_label: run", "run_label: run\n  observers: [consol]")),
        Case("an unknown task", ("dataset:", "dataset:\n  category: classify")),
        Case(
            "resume and finetune at once",
            words="train recipe.yaml common.resume=a.pt common.finetune=b.pt",
        ),
        Case(
            "several mistakes",
            ("name: adamw", "nam: adamw\n  weight_decay: -1"),
            words="train recipe.yaml scheduler.max_epochs=x",
        ),
        Case("wrong indentation", ("  max_epochs: 1", "   max_epochs: 1")),
        Case("a tab", ("  max_epochs: 1", "\tmax_epochs: 1")),
        Case("a bracket that is not closed", ("[loss, top1]", "[loss, top1")),
        Case("no mapping at all", prepare=write("recipe.yaml", "model\n")),
        Case(
            "a file in another encoding",
            prepare=write("recipe.yaml", b"common:\n  run_label: caf\xe9\n"),
        ),
    ],
    "On the command line": [
        Case("no recipe of this name", words="train recip.yaml"),
        Case("a folder for a recipe", words="train data"),
        Case("no recipe", words="train common.seed=1"),
        Case("two recipes", words="train recipe.yaml recipe.yaml"),
        Case("an unknown command", words="trian recipe.yaml"),
        Case(
            "a word that is not key=value",
            words="train recipe.yaml --common.override-kwargs common.seed",
        ),
        Case("a misspelt key", words="train recipe.yaml --optim.weight-decy 1e-4"),
        Case("a wrong value", words="train recipe.yaml common.seed=-1"),
        Case("a list that is not closed", words="train recipe.yaml stats.val=[loss"),
        Case("an unknown flag", words="train recipe.yaml -x"),
        Case("cvnets list of an unknown kind", words="list model"),
        Case("cvnets list with too many words", words="list models losses"),
        Case("cvnets explain of an unknown key", words="explain optim.weightdecay"),
        Case("cvnets explain of an old key", words="explain stats.name"),
    ],
    "Plugins": [
        Case("no such file", words="train recipe.yaml common.plugins=mine.py"),
        Case("no such module", words="train recipe.yaml common.plugins=my_package.models"),
        Case(
            "an error in it",
            words="train recipe.yaml common.plugins=mine.py",
            prepare=write("mine.py", "import torch\n\ntorch.no_such_thing\n"),
        ),
        Case(
            "no Python",
            words="train recipe.yaml common.plugins=mine.py",
            prepare=write("mine.py", "def f(:\n"),
        ),
        Case(
            "a name that is taken",
            words="train recipe.yaml common.plugins=mine.py",
            prepare=write(
                "mine.py",
                "from optim.kinds import OPTIMIZERS\n\n"
                "@OPTIMIZERS.register('sgd')\ndef mine(options, groups): ...\n",
            ),
        ),
    ],
    "Data": [
        Case("no folder is given", ("  root_train: data/train\n", "")),
        Case("the folder is missing", ("data/train", "data/trian")),
        Case("the folder holds no class folders", ("data/train", "data/train/a")),
        Case("an empty class folder", prepare=make("data/train/d")),
        Case("a class without a validation folder", prepare=remove("data/val/b")),
        Case(
            "another number of classes in the recipe",
            ("name: tiny", "name: tiny\n    n_classes: 1000"),
        ),
        Case(
            "too few images",
            prepare=lambda folder: [
                remove(f"data/train/{c}/{i}.jpg")(folder)
                for c in "abc"
                for i in range(6)
                if (c, i) not in (("a", 0), ("b", 0), ("c", 0))
            ],
            words="train recipe.yaml sampler.tail=drop",
        ),
        Case("a truncated JPEG in evaluation", late=True, prepare=cut(JPEG, 0.7)),
        Case("an empty file in evaluation", late=True, prepare=write(JPEG, b"")),
        Case(
            "a text file called .jpg in evaluation",
            late=True,
            prepare=write(JPEG, "<html>404</html>"),
        ),
        Case(
            "a truncated PNG in evaluation",
            late=True,
            prepare=all_of(png, cut("data/val/a/0.png", 0.7)),
        ),
        Case(
            "too many bad images in training",
            late=True,
            prepare=all_of(*[cut(f"data/train/{c}/0.jpg", 0.7) for c in "abc"]),
        ),
        Case(
            "nothing but bad images",
            late=True,
            prepare=all_of(*[cut(f"data/train/{c}/{i}.jpg", 0.7) for c in "abc" for i in range(6)]),
        ),
    ],
    "Detection": [
        Case(
            "the folder of the images for that of the data set",
            words=f"{DETECT} dataset.root_train=coco/train2017",
            prepare=coco(),
        ),
        Case(
            "no annotation file",
            words=DETECT,
            prepare=all_of(coco(), remove("coco/annotations/instances_train2017.json")),
        ),
        Case(
            "a results file for an annotation file",
            words=DETECT,
            prepare=coco(lambda content: content["annotations"]),
        ),
        Case(
            "an annotation file that is cut off",
            words=DETECT,
            prepare=all_of(coco(), cut("coco/annotations/instances_train2017.json", 0.5)),
        ),
        Case("an unknown category", words=DETECT, prepare=first_annotation(category_id=99)),
        Case("an unknown image", words=DETECT, prepare=first_annotation(image_id=99)),
        Case("a box of three numbers", words=DETECT, prepare=first_annotation(bbox=[1, 2, 3])),
        Case(
            "a missing image",
            words=DETECT,
            prepare=all_of(coco(), remove("coco/train2017/000000000001.jpg")),
        ),
        Case(
            "categories that differ between the splits",
            words=DETECT,
            prepare=coco(lambda content: content["categories"][0].update(name="rod")),
        ),
        Case(
            "the classes of COCO for other data",
            words=f"{DETECT} model.detection.n_classes=81",
            prepare=coco(),
        ),
        Case("no detector", words=f"{DETECT} model.detection.name=null", prepare=coco()),
        Case("a misspelt detector", words=f"{DETECT} model.detection.name=sdd", prepare=coco()),
        Case(
            "the metric of evaluation in training",
            words=f"{DETECT} stats.train=loss,coco_map",
            prepare=coco(),
        ),
        Case(
            "levels that do not follow each other",
            words=f"{DETECT} anchor_generator.ssd.output_strides=[16,64,128,256,512,-1]",
            prepare=coco(),
        ),
        Case(
            "a list of ratios too few",
            words=f"{DETECT} anchor_generator.ssd.output_strides=[16,32,64,-1]",
            prepare=coco(),
        ),
        Case(
            "images of their own size in one batch",
            words=f"{DETECT} evaluation.detection.resize_input_images=false dataset.eval_batch_size0=2",
            prepare=coco(),
        ),
        Case("evaluation without weights", words="eval detection.yaml", prepare=coco()),
        Case(
            "a classifier for a detector",
            words="eval detection.yaml model.detection.pretrained=w.pt",
            prepare=all_of(coco(), network()),
        ),
    ],
    "Weights": [
        Case("evaluation without weights", words="eval recipe.yaml"),
        Case("no such file", words="eval recipe.yaml model.classification.pretrained=w.pt"),
        Case("no such file, for finetuning", words="train recipe.yaml common.finetune=w.pt"),
        Case("no such checkpoint", words="eval w.pt"),
        Case("a truncated file", words=EVAL, after_run=True, prepare=cut(WEIGHTS, 0.5)),
        Case("a file of something else", words=EVAL, prepare=write(WEIGHTS, "<html>404</html>")),
        Case(
            "another number of classes",
            words=EVAL,
            after_run=True,
            prepare=all_of(remove("data/train/c"), remove("data/val/c")),
        ),
        Case(
            "weights of another network",
            words=EVAL,
            prepare=all_of(make("results/run"), save(WEIGHTS, {"conv_1.weight": torch.zeros(1)})),
        ),
        Case(
            "a file that would run code",
            words=EVAL,
            prepare=all_of(make("results/run"), save(WEIGHTS, {"a": RunsCode()})),
        ),
        Case(
            "a checkpoint without a recipe",
            words="eval w.pt",
            prepare=save("w.pt", {"a": torch.zeros(1)}),
        ),
        Case(
            "MobileViT weights that do not say whether they saw RGB", words=MIT, prepare=network()
        ),
        Case(
            "a source that cannot be",
            words=f"{MIT} model.weights_source=torchvision",
            prepare=network(),
        ),
        Case(
            "a source that does not exist",
            words=f"{MIT} model.weights_source=cvnets",
            prepare=network(),
        ),
        Case(
            "two entries are missing",
            words=f"{MIT} model.weights_source=cvnets-main",
            prepare=network(
                without("layer_1.0.block.red_1x1.block.norm.bias", "conv_1.block.conv")
            ),
        ),
        Case(
            "the weights of another size",
            words=f"{MIT} model.weights_source=cvnets-main model.classification.mit.mode=small",
            prepare=network(),
        ),
        Case(
            "scopes that leave most of the backbone random",
            words=f"{MIT} model.weights_source=cvnets-main model.resume_exclude_scopes=layer_5.*",
            prepare=network(),
        ),
        Case(
            "the weights of a detector in an evaluation",
            words=f"{MIT} model.weights_source=cvnets-main",
            prepare=network(without("classifier", "conv_1x1_exp"), "encoder."),
        ),
        Case(
            "weights that saw other images than the recipe feeds",
            words="train recipe.yaml model.classification.pretrained=w.pt common.run_label=b",
            after_run=True,
            prepare=normalised,
        ),
        Case("converting over a file", words="convert w.pt w.pt", prepare=network()),
        Case("converting to an unknown ending", words="convert w.pt w.onnx", prepare=network()),
        Case(
            "converting to a library that lacks the network",
            words="convert w.pt x.pt --to torchvision",
            prepare=network(),
        ),
        Case(
            "checking on data of other classes",
            words="check w.pt --data data",
            prepare=network(),
        ),
        Case(
            "a folder for a checkpoint",
            words="eval recipe.yaml model.classification.pretrained=data",
        ),
    ],
    "The run and the machine": [
        Case("the folder holds a run already", after_run=True),
        Case(
            "another recipe on resume",
            words=f"{AGAIN} optim.weight_decay=0.5 sampler.bs.crop_size_width=16",
            after_run=True,
        ),
        Case("no state to resume from", words="train recipe.yaml common.resume=no.pt"),
        Case(
            "weights in place of a state",
            words=f"train recipe.yaml common.resume={WEIGHTS} common.run_label=b",
            after_run=True,
        ),
        Case(
            "a truncated state",
            words=AGAIN,
            after_run=True,
            prepare=cut("results/run/training_checkpoint_last.pt", 0.5),
        ),
        Case("a file in the way of the results", prepare=write("results", "")),
        Case(
            "a file in the way of the results of an evaluation",
            words="eval recipe.yaml model.classification.pretrained=w.pt common.results_loc=w.pt",
            after_run=True,
            prepare=lambda folder: shutil.copy(folder / WEIGHTS, folder / "w.pt"),
        ),
        Case("the disk is full", patch=disk_full, late=True),
        Case("no GPU", words="train recipe.yaml common.device=cuda", patch=without_gpu),
        Case("no such GPU", words="train recipe.yaml common.device=cuda:3", patch=without_gpu),
        Case("no Apple GPU", words="train recipe.yaml common.device=mps"),
    ],
}


def outcome(case: Case, folder: Path) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines of standard error; paths below `folder` shortened."""
    old, new = case.change
    assert old in RECIPE
    images(folder / "data/train", ("a", "b", "c"), 6)
    images(folder / "data/val", ("a", "b", "c"), 2)
    (folder / "recipe.yaml").write_text(RECIPE.replace(old, new, 1) if old else RECIPE)
    out, err = io.StringIO(), io.StringIO()
    back, root = Path.cwd(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert not case.after_run or main(["train", "recipe.yaml", "-q"]) == 0
            case.prepare(folder)
            with case.patch():
                code = main(case.words.split(" "))
    finally:
        os.chdir(back)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
    short = err.getvalue().replace(str(folder), "/project").replace(str(ROOT), "/cvnets")
    short = re.sub(r"(/cvnets/\S+:)\d+", r"\1N", re.sub(r"[\d,]+ bytes", "N bytes", short))
    return code, out.getvalue(), short.splitlines()


PAGE = """\
# Mistakes and what they print

Every mistake of a user prints what is wrong, where, and what to do, and the command ends with exit
code 2. All mistakes of a recipe are reported at once. This page is checked by
`tests/test_mistakes.py`, where each of these mistakes is made.
"""


def page(lines: dict[str, list[str]]) -> str:
    """The text of docs/mistakes.md."""
    text = PAGE
    for topic, cases in CASES.items():
        text += f"\n## {topic}\n\n| mistake | what it prints |\n|---|---|\n"
        for case in cases:
            cells = "<br>".join(
                f"`{line}`".replace("|", "\\|") for line in lines[f"{topic}: {case.title}"]
            )
            text += f"| {case.title} | {cells} |\n"
    return text


def expected() -> dict[str, list[str]]:
    """`topic: title` -> the lines of docs/mistakes.md."""
    found: dict[str, list[str]] = {}
    topic = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            topic = line[3:]
        elif row := re.fullmatch(r"\| (.+?) \| `(.+)` \|", line):
            assert f"{topic}: {row[1]}" not in found
            found[f"{topic}: {row[1]}"] = row[2].replace("\\|", "|").split("`<br>`")
    return found


ALL = {f"{topic}: {case.title}": case for topic, cases in CASES.items() for case in cases}


@pytest.mark.parametrize("name", ALL)
def test_a_mistake_prints_what_is_wrong_where_and_what_to_do(name, tmp_path):
    code, out, lines = outcome(ALL[name], tmp_path)
    assert lines == expected()[name]
    assert code == 2
    assert "Traceback" not in out
    run = tmp_path / "results/run"
    assert ALL[name].after_run or ALL[name].late == (run / "config.yaml").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize(
    ("size", "expected_code"), [("16k", 2), ("32k", 2), ("48k", 2), ("64k", 2), ("1m", 0)]
)
def test_a_disk_that_is_really_full(size, expected_code, tmp_path):
    """However far the run gets, it ends with one line; a state that was saved can be read."""
    disk = tmp_path / "results"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        case = Case("full", ("max_epochs: 1", "max_epochs: 3"))
        code, out, lines = outcome(case, tmp_path)
        state = disk / "run/training_checkpoint_last.pt"
        assert not state.exists() or "model_state_dict" in torch.load(state, weights_only=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "Traceback" not in out
    assert code == expected_code
    if code == 0:
        return
    (line,) = lines
    assert re.fullmatch(
        r"results/run/[\w.]+: cannot write: the disk is full, free some space; "
        "what was saved before is whole",
        line,
    )


def test_the_page_holds_these_mistakes_and_no_others():
    assert len(ALL) >= 30
    assert TABLE.read_text(encoding="utf-8") == page(expected())
    assert list(expected()) == list(ALL)


def write_page() -> None:
    """Make every mistake, and write down what it prints."""
    torch.set_num_threads(1)
    lines = {}
    for name, case in ALL.items():
        with tempfile.TemporaryDirectory() as folder:
            code, out, lines[name] = outcome(case, Path(folder).resolve())
        if code != 2 or "Traceback" in out:
            raise SystemExit(f"{name}: exit code {code}\n{out}")
    TABLE.write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    write_page()
