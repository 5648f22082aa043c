"""config/ is light and stands alone; foreign modules of our names are noticed."""

import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import UserError
from config.shadowing import OURS, check_our_modules

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(f"config.{path.stem}" for path in (ROOT / "config").glob("[a-z]*.py"))


def python(code: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter; the folder it starts in comes first on the path."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def loaded(code: str, cwd: Path) -> set[str]:
    """Top-level modules in memory after the code has run."""
    done = python(f"{code}\nimport sys\nprint('LOADED', *sys.modules)", cwd)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("LOADED")[-1].split()
    return {word.partition(".")[0] for word in words}


def test_config_imports_neither_torch_nor_images_nor_the_floors_above(tmp_path):
    assert "config.reading" in MODULES
    found = loaded("import " + ", ".join(MODULES), tmp_path)
    assert "pydantic" in found
    heavy = {"torch", "torchvision", "numpy", "cv2", "matplotlib"}
    assert not found & (heavy | (set(OURS) - {"config"}))


@pytest.mark.parametrize(
    "words", [["--help"], [], ["trian"], ["train", "--help"], ["eval", "-h"], ["train"]]
)
def test_help_and_slips_import_no_torch(words, tmp_path):
    found = loaded(f"from engine.command_line import main; main({words})", tmp_path)
    assert not found & {"torch", "torchvision", "numpy", "cv2", "data", "cvnets", "matplotlib"}


def test_the_guard_is_content_here():
    check_our_modules()


@pytest.mark.parametrize("name", ["data", "optim", "loss_fn", "cvnets"])
@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py"])
def test_a_foreign_module_in_the_working_folder_is_named(name, form, tmp_path):
    foreign = tmp_path / form.format(name)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("")
    done = python(
        "import sys; from engine.command_line import main; sys.exit(main(['env']))", tmp_path
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"module '{name}' of cvnets is hidden by {foreign}; "
        "run from another folder, or rename or uninstall the other one\n"
    )


def test_a_foreign_module_in_place_of_the_guard_itself_is_named(tmp_path):
    (tmp_path / "config.py").write_text("")
    done = python(
        "import sys; from engine.command_line import main; sys.exit(main(['env']))", tmp_path
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"module 'config' of cvnets is hidden by {tmp_path}/config.py; "
        "run from another folder, or rename or uninstall the other one\n"
    )


def test_a_folder_of_files_in_the_working_folder_hides_nothing(tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "config").mkdir()
    done = python("from config.shadowing import check_our_modules as c; c()", tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_guard_can_fail_in_this_process(tmp_path, monkeypatch):
    (tmp_path / "optim.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "optim"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"module 'optim' of cvnets is hidden by .*optim\.py; run"):
        check_our_modules()
