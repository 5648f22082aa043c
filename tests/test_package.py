"""The installed package: a wheel in an empty folder, used from another one."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what git tracks, so that nothing is left in the tree."""
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(source),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return next(out.glob("cvnets-*.whl"))


def test_wheel_holds_packages_recipes_and_types_but_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"main_train.py", "main_eval.py", "engine/trainer.py", "cvnets/layers/conv.py"} <= names
    assert "config/classification/imagenet/mobilevit.yaml" in names
    assert {"config/demo/classification.yaml", "cvnets/weights/zoo.yaml"} <= names
    assert "data/datasets/classification/imagenet_synsets.txt" in names
    packages = ("config", "cvnets", "data", "engine", "loss_fn", "optim")
    assert {f"{package}/py.typed" for package in packages} <= names
    assert not [name for name in names if name.startswith("tests")]
    tracked = {
        str(p.relative_to(ROOT)) for package in packages for p in (ROOT / package).rglob("*.py")
    }
    assert tracked <= names


def test_installed_commands_work_from_another_folder(wheel, tmp_path):
    target = tmp_path / "installed"
    words = ["install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(target)}

    def call(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=empty, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert call(target / "bin" / "cvnets", "--version").strip() == "0.1.0"
    assert "demo/classification.yaml" in call(target / "bin" / "cvnets", "list", "recipes")
    assert "usage: cvnets train" in call(target / "bin" / "cvnets-train", "--help")
    assert "usage: cvnets eval" in call(target / "bin" / "cvnets-eval", "--help")
    explained = call(target / "bin" / "cvnets", "explain", "optim.name", "demo/classification")
    assert "adamw" in explained
    assert str(target) in explained
