"""A run that was killed and continued has the weights of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = str(ROOT / "tests" / "launch.py")


def start(words, *, processes=1):
    """The command line in a process (group) of its own, its output as a stream of lines."""
    python = [sys.executable, "-u"]
    if processes > 1:
        python += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        python += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    return subprocess.Popen(
        [*python, LAUNCH, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def interrupt_at(process, mark, number):
    """Send a signal as soon as a line with `mark` is printed; returns all output and the code."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if mark in line:
            os.killpg(process.pid, number)
            break
    rest = process.communicate(timeout=120)[0]
    return "".join(lines) + rest, process.returncode


def finish(process):
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    return output


def weights(folder, name="checkpoint_last.pt"):
    return torch.load(Path(folder) / name, weights_only=True)


def assert_same_run(first, second):
    for name in ("checkpoint_last.pt", "checkpoint_ema_last.pt", "checkpoint_best.pt"):
        a, b = weights(first, name), weights(second, name)
        assert all(torch.equal(a[key], b[key]) for key in a), name
    kinds = []
    for folder in (first, second):
        lines = [
            json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()
        ]
        kinds.append(
            [
                (r["kind"], r["epoch"], r["iteration"], r.get("metrics", r.get("loss")))
                for r in lines
            ]
        )
    assert kinds[0] == kinds[1]


@pytest.fixture
def recipe(tiny_recipe):
    """Dropout, batch norm and three image sizes: everything that a resume could get wrong."""
    return tiny_recipe | {
        "model.classification.tiny.norm": True,
        "model.classification.tiny.dropout": 0.3,
        "common.auto_resume": True,
        "common.save_interval_freq": 2,
        "scheduler.max_epochs": 3,
    }


@pytest.mark.parametrize(
    ("workers", "mark"),
    [
        pytest.param(0, "epoch 2 Train", marks=pytest.mark.slow),
        (2, "epoch 1/3 step 3/"),
        pytest.param(0, "epoch 3/3 step 2/", marks=pytest.mark.slow),
        pytest.param(2, "epoch 3 Train", marks=pytest.mark.slow),
    ],
)
def test_killed_and_continued_equals_uninterrupted(recipe, words, tmp_path, workers, mark):
    shared = [*words(recipe), f"dataset.workers={workers}"]
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    whole = ["train", str(empty), *shared, "common.run_label=whole"]
    broken = ["train", str(empty), *shared, "common.run_label=broken"]
    finish(start(whole))
    output, code = interrupt_at(start(broken), mark, signal.SIGKILL)
    assert code == -signal.SIGKILL, output
    assert "resuming" in finish(start(broken))
    assert_same_run(tmp_path / "results/whole", tmp_path / "results/broken")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_asked_to_stop_it_finishes_the_step_saves_and_exits_with_3(recipe, words, tmp_path, number):
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    shared = [*words(recipe | {"common.save_interval_freq": 0, "dataset.workers": 1})]
    whole = ["train", str(empty), *shared, "common.run_label=whole"]
    stopped = ["train", str(empty), *shared, "common.run_label=stopped"]
    finish(start(whole))
    output, code = interrupt_at(start(stopped), "epoch 2/3 step 3/", number)
    assert code == 3, output
    assert "stopped on request; the state is saved" in output
    assert "Traceback" not in output
    assert "epoch 2, step" in finish(start(stopped))
    assert_same_run(tmp_path / "results/whole", tmp_path / "results/stopped")


def test_two_processes_stop_together_and_go_on_as_one(recipe, words, tmp_path):
    """Stopped with two processes, continued with one: the plan stays that of two."""
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    exact = {"model.classification.tiny.norm": False, "model.classification.tiny.dropout": 0.0}
    exact |= {"common.parameter_dtype": "float64", "common.save_interval_freq": 0}
    shared = words(recipe | exact)
    whole = ["train", str(empty), *shared, "common.run_label=whole"]
    stopped = ["train", str(empty), *shared, "common.run_label=stopped"]
    finish(start(whole, processes=2))
    output, code = interrupt_at(start(stopped, processes=2), "epoch 2/3 step 1/", signal.SIGTERM)
    assert code != 0, output
    state = torch.load(tmp_path / "results/stopped/training_checkpoint_last.pt", weights_only=True)
    assert state["cvnets"]["processes"] == 2
    assert (state["cvnets"]["epoch"], state["cvnets"]["step"]) > (0, 0)
    finish(start(stopped))
    torch.testing.assert_close(
        weights(tmp_path / "results/whole"),
        weights(tmp_path / "results/stopped"),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    from data.datasets.shapes import generate

    out = tmp_path_factory.mktemp("shapes") / "shapes"
    generate("imagefolder", out, train=480, val=80, size=64)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_demo_killed_at_a_random_step_equals_uninterrupted(shapes, tmp_path, workers):
    """MobileViT-XXS as in the demo, on fewer images; the step is another one in every run."""
    words = ["train", "demo/classification", f"common.results_loc={tmp_path}/results"]
    words += [f"dataset.root_train={shapes}/train", f"dataset.root_val={shapes}/val"]
    words += ["scheduler.max_epochs=3", f"dataset.workers={workers}", "common.log_freq=1"]
    finish(start([*words, "common.run_label=whole"]))
    mark = f"epoch {random.randint(1, 3)}/3 step {random.randint(1, 5)}/"
    output, code = interrupt_at(start([*words, "common.run_label=broken"]), mark, signal.SIGKILL)
    assert code == -signal.SIGKILL, f"{mark}: {output}"
    finish(start([*words, "common.run_label=broken"]))
    assert_same_run(tmp_path / "results/whole", tmp_path / "results/broken")
