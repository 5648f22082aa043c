"""One process and several: the same evaluation, the same training."""

import json
from pathlib import Path

import torch


def losses(folder):
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def values(folder):
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [(r["stage"], r["metrics"]) for r in lines if r["kind"] == "evaluation"]


def test_training_is_the_same_for_one_and_two_processes(tiny_recipe, as_command, command, tmp_path):
    """50 steps in float64 without batch norm; two processes deal what one accumulates.

    One of the epochs ends with a step of a single micro-batch, for which rank 1 has nothing.
    """
    recipe = tiny_recipe | {"common.parameter_dtype": "float64", "scheduler.max_epochs": 10}
    recipe |= {"dataset.train_batch_size0": 6}
    command(*as_command(recipe), "common.run_label=two", processes=2)
    command(*as_command(recipe), "common.run_label=one", "common.accum_freq=2")
    one, two = losses(tmp_path / "results/one"), losses(tmp_path / "results/two")
    assert len(one) >= 50
    torch.testing.assert_close(one, two, rtol=1e-9, atol=0)
    a = torch.load(tmp_path / "results/one/checkpoint_last.pt", weights_only=True)
    b = torch.load(tmp_path / "results/two/checkpoint_last.pt", weights_only=True)
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_test_above_has_a_step_without_work_for_rank_1(tiny_recipe):
    from data.sampler.plan import RunPlan
    from engine import load_recipe
    from engine.parts import build_sampler

    sampler = build_sampler(load_recipe(tiny_recipe), 6)
    plan = RunPlan(seed=0, dataset_size=72, sampler=sampler, processes=2)
    assert any(len(plan.epoch(epoch).steps[-1]) == 1 for epoch in range(10))


EVALUATION = "evaluations/checkpoint_best/evaluation.json"


def test_evaluation_is_bit_equal_for_one_two_and_three_processes(
    tiny_recipe, as_command, command, tmp_path
):
    """Batch norm on, trained by two: what counts is the model of rank 0."""
    recipe = tiny_recipe | {"model.classification.tiny.norm": True}
    command(*as_command(recipe), processes=2)
    best = tmp_path / "results/run/checkpoint_best.pt"
    reports = []
    for processes in (1, 2, 3):
        plugin = recipe["common.plugins"][0]
        word = ["eval", best, f"common.run_label=eval{processes}", f"common.plugins={plugin}"]
        done = command(*word, processes=processes)
        assert "evaluated 33 of 33 unique images" in done.stdout
        reports.append(json.loads((tmp_path / f"results/eval{processes}" / EVALUATION).read_text()))
    assert reports[0]["metrics"] == reports[1]["metrics"] == reports[2]["metrics"]
    summary = json.loads((tmp_path / "results/run/summary.json").read_text())
    assert summary["top1"] == reports[0]["metrics"]["top1"]
    assert summary["loss"] == reports[0]["metrics"]["loss"]
