"""docs/compatibility.md is what its script writes, and its commands run on an official recipe."""

import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import yaml

from engine.command_line import main

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"


def test_the_page_is_what_its_script_writes(tmp_path, monkeypatch):
    """After a wanted change: python docs/compatibility.py"""
    file = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["compatibility.py", str(file)])
    runpy.run_path(str(ROOT / "docs/compatibility.py"), run_name="__main__")
    assert file.read_text() == PAGE.read_text()


def test_its_commands_run(tmp_path, image_folder, monkeypatch, capsys):
    recipes = json.loads((ROOT / "tests/reference/recipe_keys.json").read_text())["recipes"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(image_folder, tmp_path / "flowers")
    (tmp_path / "official.yaml").write_text(
        yaml.safe_dump(recipes["v0.1/classification/mobilevit_xx_small.yaml"])
    )
    small = [
        f"sampler.vbs.{which}crop_size_{side}=32"
        for which in ("", "min_", "max_")
        for side in ("width", "height")
    ]
    quick = ["scheduler.max_epochs=1", "scheduler.warmup_iterations=1", "dataset.workers=0"]
    quick += ["common.device=cpu", "dataset.train_batch_size0=16"]
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.S)
    printed = ""
    for line in block.splitlines():
        assert main([*shlex.split(line)[1:], *small, *quick]) == 0
        printed += capsys.readouterr().out
    assert "common.release: v0.1 or mobilevitv3-v1 (official.yaml:" in printed
    assert "old key stats.name: read as stats.train" in printed
    assert len(re.findall(r"top1 \d", printed)) >= 1
