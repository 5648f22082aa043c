"""`cvnets verify`: weights on disk, a generated recipe and data, and what becomes of the figures."""

import errno
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

import cvnets
import engine
from engine.command_line import main
from engine.recipe import RECIPES
from engine.verification import open_record, to_verify

PAGE = Path(__file__).resolve().parent.parent / "docs/recipes.md"


@pytest.fixture
def published(tiny_recipe, image_folder, tmp_path, monkeypatch):
    """Writes a recipe, relative to the folder of the data, with weights and what they reach."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    sized = tiny_recipe | {"model.classification.n_classes": 3}
    torch.save(engine.build_model(engine.load_recipe(sized)).state_dict(), "tiny.pt")
    given = tiny_recipe | {"dataset.root_val": "val", "dataset.root_train": "nowhere"}
    whole = {
        "dataset.root_val": str(image_folder / "val"),
        "model.classification.pretrained": "tiny.pt",
    }
    report = engine.evaluate(engine.load_recipe(given | whole))
    expected = {"metric": "top1", "value": report["metrics"]["top1"], "weights": "tiny.pt"}

    def write(name="tiny.yaml", **changes):
        about = {key: value for key, value in (expected | changes).items() if value is not None}
        keys = {f"expected.{key}": value for key, value in about.items()}
        Path(name).write_text(yaml.safe_dump(given | keys))
        return name

    return write


@pytest.fixture
def verify(image_folder, capsys):
    """Run the command on the generated data: exit code, both outputs, and the rows of the record."""

    def run(name, *words, out="seen/verified.jsonl"):
        code = main(["verify", name, "--data", str(image_folder), "--out", out, *words])
        printed = capsys.readouterr()
        lines = Path(out).read_text().splitlines() if Path(out).exists() else []
        return code, printed, [json.loads(line) for line in lines]

    return run


def test_a_figure_that_is_reached_becomes_a_row(published, verify):
    code, printed, rows = verify(published(images=33, input_size=32))
    assert code == 0, printed
    (row,) = rows
    assert row["measured"] == row["expected"] > 0
    assert row.pop("reached") is True
    assert row.pop("measured") == row.pop("expected")
    assert row == {
        **{"recipe": "tiny.yaml", "weights": "tiny.pt", "metric": "top1", "tolerance": 0.3},
        **{"images": 33, "input_size": 32, "device": "cpu", "torch": torch.__version__},
    }
    assert "within the tolerance" in printed.out
    assert printed.err == ""


def test_a_figure_that_is_missed_is_exit_code_2(published, verify):
    code, printed, rows = verify(published(value=99.5))
    assert code == 2
    assert [row["reached"] for row in rows] == [False]
    (line,) = printed.err.splitlines()
    assert re.match(
        r"tiny.yaml: top1 [\d.]+, expected 99.5: .* outside the tolerance of 0.3$", line
    )


def test_a_figure_of_other_images_is_not_reached(published, verify):
    code, printed, rows = verify(published(images=50000))
    assert code == 2
    assert rows[0]["reached"] is None
    assert "not compared: 33 images, the expected figure is of 50000" in printed.err


@pytest.mark.parametrize("left_out", ["weights", "value", "metric"])
def test_a_recipe_without_published_weights_is_told_so(left_out, published, verify):
    code, printed, rows = verify(published(**{left_out: None}))
    assert (code, rows) == (2, [])
    assert printed.err == (
        "tiny.yaml: expected: weights, metric and value are needed; nothing is published to verify "
        "here\n"
    )


def test_a_metric_that_is_not_measured(published, verify):
    code, printed, _ = verify(published(metric="iou"))
    assert code == 2
    assert "expected.metric: iou is not measured, only loss, top1" in printed.err


def test_options_on_the_command_line_count(published, verify):
    code, _, rows = verify(published(value=99.5), "expected.tolerance=100", "expected.images=33")
    assert (code, rows[0]["tolerance"]) == (0, 100)


def test_only_the_row_of_the_same_recipe_and_weights_is_replaced(published, verify):
    verify(published("other.yaml"))
    verify(published(value=99.5))
    Path("copy.pt").write_bytes(Path("tiny.pt").read_bytes())
    _, printed, rows = verify(published(weights="copy.pt"))
    assert "replaced" not in printed.out
    _, printed, after = verify(published())
    assert "is replaced" in printed.out
    assert [(row["recipe"], row["weights"]) for row in after] == [
        ("other.yaml", "tiny.pt"),
        ("tiny.yaml", "tiny.pt"),
        ("tiny.yaml", "copy.pt"),
    ]
    assert [row["reached"] for row in rows] == [True, False, True]
    assert [row["reached"] for row in after] == [True, True, True]


def test_what_cannot_be_had_is_named_and_the_others_go_on(published, verify, monkeypatch):
    names = [published("a.yaml", weights="missing.pt"), published("b.yaml")]
    names.append(published("c.yaml", weights=None))
    monkeypatch.setattr("engine.reading.shipped_recipes", lambda: [Path(name) for name in names])
    code, printed, rows = verify("all")
    assert code == 2
    assert [row["recipe"] for row in rows] == ["b.yaml"]
    (line,) = printed.err.splitlines()
    assert line.startswith("a.yaml: ") and "missing.pt" in line
    code, printed, _ = verify("all", "dataset.root_val=gone")
    assert code == 2
    assert [line.partition(":")[0] for line in printed.err.splitlines()] == ["a.yaml", "b.yaml"]
    assert all("gone" in line for line in printed.err.splitlines())


@pytest.mark.parametrize("line", ["[1]", "{", '{"recipe": "a"}'])
def test_a_record_that_is_none_is_told_at_once(line, published, image_folder, capsys):
    text = '{"recipe": "a", "weights": "b"}\n' + line + "\n"
    Path("bad.jsonl").write_text(text)
    words = ["verify", published(), "--data", str(image_folder), "--out"]
    assert main([*words, "bad.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("bad.jsonl:2: no row of cvnets verify; ")
    assert Path("bad.jsonl").read_text() == text
    assert main([*words, "bad.jsonl/a.jsonl"]) == 2
    assert "cannot create its folder" in capsys.readouterr().err


def not_a_file(path):
    path.mkdir()


def not_utf_8(path):
    path.write_bytes('{"recipe": "caf\u00e9"}\n'.encode("latin-1"))


def nothing_there(path):
    """The disk is full: see below."""


def disk_is_full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("prepare", "name", "message"),
    [
        (not_a_file, "seen", "seen: is a folder; name a file with --out"),
        (
            not_utf_8,
            "a.jsonl",
            "a.jsonl: cannot read the record: not UTF-8 text; give another --out",
        ),
        (nothing_there, "new/a.jsonl", "new/a.jsonl: cannot write: the disk is full"),
        (nothing_there, "n" * 300, ": File name too long"),
    ],
)
def test_a_record_that_cannot_be_kept_is_told_before_the_evaluation(
    prepare, name, message, published, image_folder, monkeypatch, capsys
):
    words = ["verify", published(), "--data", str(image_folder), "--out", name]
    prepare(Path(name))
    monkeypatch.setattr("engine.verification.evaluate", None)
    monkeypatch.setattr("os.fsync", disk_is_full)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_trial_leaves_the_record_as_it_was(published, tmp_path):
    row = {"recipe": "a", "weights": "b", "measured": 1.5}
    (tmp_path / "old.jsonl").write_text(json.dumps(row) + "\n")
    for name in ("old.jsonl", "new/one.jsonl"):
        open_record(tmp_path / name)
    assert (tmp_path / "old.jsonl").read_text() == json.dumps(row) + "\n"
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("stored", [{"measured": None}, {}, {"measured": "x"}])
def test_a_row_without_a_figure_is_replaced(stored, published, verify):
    Path("a.jsonl").write_text(json.dumps({"recipe": "tiny.yaml", "weights": "tiny.pt", **stored}))
    code, printed, rows = verify(published(images=33), out="a.jsonl")
    assert code == 0, printed
    assert "a.jsonl: a row of tiny.yaml without a figure is replaced" in printed.out
    assert [row["reached"] for row in rows] == [True]


def test_all_are_the_shipped_recipes_with_published_weights():
    names = to_verify(sorted(RECIPES.rglob("*.yaml")))
    assert "classification/imagenet/mobilevit_v2" in names
    assert "segmentation/ade20k/deeplabv3_mobilenet_v2" in names
    assert "classification/imagenet/vit" not in names
    assert len(names) == len(set(names)) > 30


def test_commands_of_the_page(image_folder, tmp_path, monkeypatch):
    """On three classes and weights from a file, whatever they reach."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DATA/imagenet").mkdir(parents=True)
    (tmp_path / "DATA/imagenet/val").symlink_to(image_folder / "val")
    weights = cvnets.create_model("mobilevit_xx_small", n_classes=3).state_dict()
    torch.save(weights, "xxs.pt")
    blocks = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.S))
    lines = [line for line in blocks.replace("\\\n", " ").splitlines() if "cvnets verify" in line]
    assert lines
    quick = ["expected.weights=xxs.pt", "expected.tolerance=100", "expected.images=33"]
    quick += ["common.device=cpu", "dataset.workers=0", "model.weights_source=cvnets-main"]
    quick += ["image_augmentation.resize.size=64", "image_augmentation.center_crop.size=64"]
    for line in lines:
        words = shlex.split(line)[1:]
        recipe = "classification/imagenet/mobilevit_xx_small" if words[1] == "all" else words[1]
        assert main(["verify", recipe, *words[2:], *quick]) == 0
    (row,) = map(json.loads, Path("results/verified.jsonl").read_text().splitlines())
    assert row["recipe"] == "classification/imagenet/mobilevit_xx_small"
