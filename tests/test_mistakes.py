"""What a user's mistakes print: one line each, exit code 2, no traceback.

The lines stand in docs/mistakes.md, for people; how each mistake is made, in tests/mistakes/. After a
change `PYTHONPATH=. python tests/test_mistakes.py` writes that page anew: read what has changed in it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.command_line import main
from tests.mistakes.case import Case
from tests.mistakes.detection import DETECTION_CASES
from tests.mistakes.images import DATA
from tests.mistakes.machine import MACHINE
from tests.mistakes.recipe import IN_THE_RECIPE, ON_THE_COMMAND_LINE, PLUGINS
from tests.mistakes.segmentation import SEGMENTATION_CASES
from tests.mistakes.weights import WEIGHTS_CASES

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
CASES = {
    "In the recipe": IN_THE_RECIPE,
    "On the command line": ON_THE_COMMAND_LINE,
    "Plugins": PLUGINS,
    "Data": DATA,
    "Detection": DETECTION_CASES,
    "Segmentation": SEGMENTATION_CASES,
    "Weights": WEIGHTS_CASES,
    "The run and the machine": MACHINE,
}


def images(folder: Path, classes: tuple[str, ...], count: int) -> None:
    """`count` images of 24x24 per class, brighter from class to class."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.full((24, 24, 3), 40 + 60 * number + i, np.uint8)
            cv2.imwrite(str(folder / name / f"{i}.jpg"), pixels)


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
