"""The house rules, read from the syntax of every file: floors, sizes, names, what is printed where."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "config": 0,
    "cvnets": 1,
    "data": 1,
    "optim": 1,
    "loss_fn": 2,
    "engine": 3,
    "main_train": 4,
    "main_eval": 4,
}
WITHIN_CVNETS = {"layers": 0, "modules": 1, "models": 2}
ALLOWED = {("loss_fn", "cvnets"): "cvnets.boxes"}  # the box geometry, and nothing else of cvnets
FOREIGN_TO_CONFIG = {"torch", "torchvision", "numpy", "cv2"}


def files(root: Path) -> list[Path]:
    """Every file of the library below `root`."""
    folders = [path for name in FLOORS for path in (root / name).rglob("*.py")]
    return sorted(
        folders + [root / f"{name}.py" for name in FLOORS if (root / f"{name}.py").exists()]
    )


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, those inside functions and by text included."""
    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def violations(root: Path) -> list[str]:
    """Imports that go up, sideways, or out of config."""
    found = []
    for path in files(root):
        relative = path.relative_to(root)
        home = relative.parts[0].removesuffix(".py")
        for line, module in imports(path, root):
            top = module.partition(".")[0]
            wrong = (home == "config" and top in FOREIGN_TO_CONFIG) or (
                top in FLOORS and not _may(home, top, module)
            )
            inside = home == top == "cvnets" and _goes_up_in_cvnets(relative, module)
            if wrong or inside:
                found.append(f"{relative}:{line}: {module}")
    return found


def _may(home: str, top: str, module: str) -> bool:
    if home == top:
        return True
    if (home, top) in ALLOWED:
        return f"{module}.".startswith(f"{ALLOWED[home, top]}.")
    return FLOORS[top] < FLOORS[home]


def _goes_up_in_cvnets(relative: Path, module: str) -> bool:
    own = WITHIN_CVNETS.get(relative.parts[1])
    other = WITHIN_CVNETS.get([*module.split("."), ""][1])
    return own is not None and other is not None and other > own


def functions() -> Iterator[tuple[str, str, int]]:
    """(file, name, lines) of every function."""
    for path in files(ROOT):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                where = str(path.relative_to(ROOT))
                yield where, node.name, node.end_lineno - node.lineno + 1


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def tracked() -> list[Path]:
    """Every file that belongs to the repository, or would with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout")
    names = [name for name in done.stdout.split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


# --- floors --------------------------------------------------------------------------------------


def test_a_file_imports_from_floors_below_its_own_only():
    assert len(files(ROOT)) > 80
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "cvnets/layers/x.py",
            "from cvnets.modules import y",
            "cvnets/layers/x.py:1: cvnets.modules.y",
        ),
        ("cvnets/modules/x.py", "import cvnets.models", "cvnets/modules/x.py:1: cvnets.models"),
        ("cvnets/layers/x.py", "from ..models import y", "cvnets/layers/x.py:1: cvnets.models.y"),
        ("cvnets/x.py", "\nfrom data import y", "cvnets/x.py:2: data.y"),
        ("data/x.py", "import optim.y", "data/x.py:1: optim.y"),
        ("optim/x.py", "def f():\n    import engine", "optim/x.py:2: engine"),
        ("loss_fn/x.py", "from cvnets import api", "loss_fn/x.py:1: cvnets.api"),
        ("loss_fn/x.py", "import cvnets", "loss_fn/x.py:1: cvnets"),
        ("loss_fn/x.py", "import cvnets.boxes_too", "loss_fn/x.py:1: cvnets.boxes_too"),
        ("config/x.py", "import torch", "config/x.py:1: torch"),
        ("config/x.py", "if 1:\n  from numpy import a", "config/x.py:2: numpy.a"),
        ("config/x.py", "import optim", "config/x.py:1: optim"),
        ("engine/x.py", "import main_train", "engine/x.py:1: main_train"),
        (
            "data/x.py",
            "import importlib\nimportlib.import_module('engine.a')",
            "data/x.py:2: engine.a",
        ),
        ("main_train.py", "import main_eval", "main_train.py:1: main_eval"),
    ],
)
def test_the_check_of_floors_can_fail(path, text, expected, tmp_path):
    good = {
        "config/a.py": "import re\nimport yaml",
        "cvnets/models/a.py": "from cvnets.modules import b\nfrom cvnets.layers import c\nimport torch",
        "loss_fn/a.py": "from cvnets.boxes import iou\nimport cvnets.boxes\nfrom config import b",
        "engine/a.py": "import cvnets, data, optim, loss_fn, config\nfrom engine import b",
        "main_train.py": "from engine import a",
        "optim/a.py": "from . import b\nfrom .c import d\nfrom optim.b import data",
    }
    for name, content in good.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert violations(tmp_path) == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert violations(tmp_path) == [expected]


# --- sizes ---------------------------------------------------------------------------------------


def test_files_are_short():
    """Under 300 lines; whoever needs more says so here, and never more than 400."""
    exceptions: set[str] = set()
    long = {str(p.relative_to(ROOT)): length(p) for p in files(ROOT) if length(p) >= 300}
    assert set(long) == exceptions
    assert all(lines < 400 for lines in long.values())


def test_functions_are_short():
    """Under 40 lines; at most one in a hundred is longer, and none is longer than 60."""
    everything = list(functions())
    long = [f"{file}: {name} has {lines} lines" for file, name, lines in everything if lines >= 40]
    assert len(long) <= len(everything) / 100, long
    assert [entry for entry in everything if entry[2] > 60] == []


def lines_of_code(path: Path) -> int:
    """Lines that are neither empty, nor a comment, nor part of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(tree_of(path)):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            documented |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return sum(
        1
        for number, line in lines
        if line.strip() and not line.strip().startswith("#") and number not in documented
    )


def test_lines_of_code_are_counted(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('"""A module.\n\nMore."""\n\n# why\ndef f():\n    """One."""\n    return "x"\n')
    assert lines_of_code(path) == 2


def test_the_library_is_small():
    assert sum(map(lines_of_code, files(ROOT))) < 21_000


def test_the_trainer_is_short_and_knows_no_task():
    path = ROOT / "engine/trainer.py"
    text = path.read_text()
    assert length(path) < 250
    spans = {name: lines for file, name, lines in functions() if file == "engine/trainer.py"}
    assert spans["fit"] + spans["train_epoch"] < 60
    assert not re.search("detection|segmentation|classification", text, re.IGNORECASE)


# --- names and texts -----------------------------------------------------------------------------


def test_no_file_is_called_utils():
    names = {part for path in tracked() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util", "misc", "common", "helpers", "helper"}


def _broad(handler: ast.ExceptHandler) -> bool:
    caught = [] if handler.type is None else list(ast.walk(handler.type))
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def test_any_exception_is_caught_in_one_place_at_most():
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in files(ROOT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and _broad(node)
    ]
    assert [place.partition(":")[0] for place in broad] == ["config/foreign.py"]


def test_only_commands_and_the_console_print():
    allowed = re.compile(r"engine/(commands/|command_line\.py|observers/console\.py)|main_")
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in files(ROOT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "pprint")
    ]
    assert [place for place in printing if not allowed.match(place)] == []
    assert printing


def _undocumented(node: ast.AST, where: str, inherits: bool = False) -> Iterator[str]:
    """Public definitions without a docstring; a method that overrides one may go without."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            yield from _undocumented(child, where, inherits)
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        is_class = isinstance(child, ast.ClassDef)
        if not ast.get_docstring(child) and (is_class or not inherits):
            yield f"{where}:{child.lineno}: {child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _undocumented(child, where, inherits=bool(child.bases) or _fulfils(child))


def _fulfils(node: ast.ClassDef) -> bool:
    """Registered classes fulfil the contract of their kind, where the methods are documented."""
    return any(".register" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_everything_public_is_documented():
    missing = []
    for path in files(ROOT):
        where, tree = str(path.relative_to(ROOT)), tree_of(path)
        if not ast.get_docstring(tree) and path.stat().st_size:
            missing.append(where)
        missing += _undocumented(tree, where)
    assert missing == []


def test_the_check_of_documentation_can_fail():
    text = '''
class A:
    """Documented."""
    def f(self): ...
class B: ...
def g(): ...
def _h(): ...
class C(A):
    """Documented."""
    def f(self): ...
'''
    assert list(_undocumented(ast.parse(text), "x")) == ["x:4: f", "x:5: B", "x:6: g"]


def test_no_path_of_a_developers_machine():
    paths = re.compile(rb"/(work|home|Users|root)/\w")
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked()
        if path != Path(__file__) and path.suffix not in (".pt", ".png", ".jpg", ".bin")
        for match in paths.finditer(path.read_bytes())
    ]
    assert found == []
