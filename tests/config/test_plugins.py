"""Components of the user: files beside the recipe, modules, entry points."""

import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import config.plugins
from config.errors import UserError
from config.plugin_files import module_name
from config.plugins import load_plugins

COUNTING = """
import builtins
builtins.cvnets_test_imports = getattr(builtins, "cvnets_test_imports", 0) + 1
"""


@pytest.fixture(autouse=True)
def imports(monkeypatch):
    """How often the counting plugin was executed; modules of the test are forgotten afterwards."""
    import builtins

    monkeypatch.setattr(builtins, "cvnets_test_imports", 0, raising=False)
    before = set(sys.modules)
    yield lambda: builtins.cvnets_test_imports
    for name in set(sys.modules) - before:
        del sys.modules[name]


def message(names, folder) -> str:
    with pytest.raises(UserError) as error:
        load_plugins(names, folder=folder)
    (line,) = error.value.lines()
    return line


def test_a_file_beside_the_recipe_is_imported_once(tmp_path, imports, monkeypatch):
    (tmp_path / "mine.py").write_text(COUNTING)
    here = load_plugins(["mine.py"], folder=tmp_path)
    assert here == [str(tmp_path / "mine.py")]
    monkeypatch.chdir(tmp_path)
    for name, folder in (
        ("mine.py", Path()),
        (here[0], Path("/")),
        ("./mine.py", Path("/nowhere")),
    ):
        assert load_plugins([name], folder=folder) == here
    assert imports() == 1


def test_the_recipes_folder_comes_before_the_working_folder(tmp_path, imports, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(COUNTING)
    (tmp_path / "mine.py").write_text("raise RuntimeError('the wrong file')")
    monkeypatch.chdir(tmp_path)
    assert load_plugins(["mine.py"], folder=other) == [str(other / "mine.py")]
    assert imports() == 1


def test_files_of_the_same_name_are_two_plugins(tmp_path, imports):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(COUNTING)
    load_plugins(["a/mine.py", "b/mine.py"], folder=tmp_path)
    assert imports() == 2


def test_a_plugin_never_hides_a_module_of_its_name(tmp_path):
    (tmp_path / "json.py").write_text("x = 1")
    load_plugins(["json.py"], folder=tmp_path)
    import json

    assert json.dumps([1]) == "[1]"


@pytest.mark.parametrize("name", ["mine.py", "my-own.parts.py", "\u00e9 x.py"])
def test_what_a_plugin_defines_is_found_in_a_fresh_process(name, tmp_path):
    """Loader workers get the user's data set pickled, where processes are not forked."""
    (tmp_path / name).write_text("class Thing:\n    def say(self):\n        return 'found'")
    load_plugins([name], folder=tmp_path)
    thing = sys.modules[module_name(tmp_path / name)].Thing()
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).say())"
    root = str(Path(config.plugins.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(thing),
        env={"PYTHONPATH": root},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"found\n", done.stderr.decode()


def test_modules_are_imported_by_name(tmp_path, imports, monkeypatch):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_plugins(["my_package.parts"], folder=tmp_path) == ["my_package.parts"]
    load_plugins(["my_package.parts"], folder=tmp_path)
    assert imports() == 1


def test_missing_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message(["no.py"], Path("/recipes")) == (
        f"common.plugins: no file 'no.py'; looked for /recipes/no.py and {tmp_path}/no.py"
    )
    assert message(["/no.py"], Path("/recipes")) == (
        "common.plugins: no file '/no.py'; looked for /no.py"
    )
    hint = "install it, or give a file, e.g. my_components.py"
    assert message(["no_such_package.parts"], tmp_path) == (
        f"common.plugins: no module 'no_such_package'; {hint}"
    )
    (tmp_path / "there").mkdir()
    (tmp_path / "there/__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert message(["there.not_here"], tmp_path) == (
        f"common.plugins: no module 'there.not_here'; {hint}"
    )


BROKEN = {
    "raises": ("x = 1\nraise ValueError('too bad')", "ValueError: too bad", 2),
    "raises_deeper": (
        "import json\ndef f():\n    json.loads('{')\nf()",
        "JSONDecodeError: Expecting property name enclosed in double quotes",
        3,
    ),
    "syntax": ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax", 2),
    "imports": ("\nimport no_such_module_x", "ModuleNotFoundError: No module named 'no_such", 2),
    "exits": ("import sys\nsys.exit()", "SystemExit: no message", 2),
    "lines": ("raise ValueError('one\\ntwo')", "ValueError: one two", 1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_with_the_line(name, tmp_path):
    text, what, line = BROKEN[name]
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    found = message([path.name], tmp_path)
    assert found.startswith(f"common.plugins: {path}: {what}")
    assert found.endswith(f"(at {path}:{line})")
    path.write_text("")  # mended: the next try imports it
    load_plugins([path.name], folder=tmp_path)


def test_a_broken_module_is_named_with_the_line(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("\n\nimport no_such_module_x")
    monkeypatch.syspath_prepend(tmp_path)
    assert message(["broken_module"], tmp_path) == (
        "common.plugins: cannot import 'broken_module': ModuleNotFoundError: No module named "
        f"'no_such_module_x' (at {tmp_path}/broken_module.py:3)"
    )


def test_a_component_that_cannot_be_registered(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from optim.kinds import OPTIMIZERS\n"
        "import optim\n"
        "@OPTIMIZERS.register('sgd')\n"
        "def mine(options, groups):\n    pass\n"
    )
    found = message(["mine.py"], tmp_path)
    assert found.startswith(f"{path}:3: optimizer 'sgd' is already registered by ")
    assert found.endswith("; choose another name")


def test_entry_points_of_installed_packages_come_first(tmp_path, imports, monkeypatch):
    (tmp_path / "installed_plugin.py").write_text(COUNTING)
    (tmp_path / "mine.py").write_text("import sys\nassert 'installed_plugin' in sys.modules")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("extra", "installed_plugin:whatever", config.plugins.GROUP)]
    asked = []
    monkeypatch.setattr(config.plugins, "entry_points", lambda group: asked.append(group) or points)
    assert load_plugins(["mine.py"], folder=tmp_path) == [str(tmp_path / "mine.py")]
    assert asked == ["cvnets.plugins"]
    assert imports() == 1


def test_a_broken_entry_point_is_named(tmp_path, monkeypatch):
    points = [EntryPoint("extra", "not_there_at_all", config.plugins.GROUP)]
    monkeypatch.setattr(config.plugins, "entry_points", lambda group: points)
    assert message([], tmp_path).startswith("entry point extra: no module 'not_there_at_all'; ")
