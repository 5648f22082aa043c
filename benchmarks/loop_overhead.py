"""The trainer against a bare loop over the same loader, model, loss and optimizer.

    python benchmarks/loop_overhead.py [--rounds 5] [--data results/shapes]

Both sides train MobileViT-XXS on the demo's data, one epoch a time, alternating in one process; the
ratio of the medians is printed. The bare loop has no EMA, no guard against NaN, no metrics, no
observers, no signals and no checkpoints: everything that the trainer adds counts as overhead,
except EMA and evaluation, which are switched off.
"""

import argparse
import statistics
import tempfile
import time

import torch

from data.loader import Loader
from engine import load_recipe
from engine.allocator import keep_large_blocks
from engine.distributed import StopSignal, World
from engine.training import Assembly, build_sampler, build_task, use_numerics
from optim import set_learning_rate


def assembly(data: str, results: str) -> Assembly:
    """The demo's training, without EMA and validation."""
    words = [f"common.results_loc={results}", "ema.enable=false", "dataset.disable_val=true"]
    words += [f"dataset.root_train={data}/train", "dataset.workers=0", "stats.train=loss"]
    recipe = load_recipe("demo/classification", words)
    use_numerics(recipe)
    task = build_task(recipe)
    sources = {"train": task.build_source("train")}
    sampler = build_sampler(recipe, recipe.dataset.train_batch_size0)
    world = World()
    return Assembly(recipe, task, sampler, sources, world, StopSignal(world), None, True)


def bare_epoch(trainer, loader: Loader, plan) -> None:
    """What a short script would do."""
    model, optimizer = trainer.state.model.train(), trainer.state.optimizer
    for batch in loader.training(plan):
        images = batch.images.float().div_(255)
        loss = trainer.loss(images, model(images), batch.targets).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="results/shapes")
    arguments = parser.parse_args()
    keep_large_blocks()
    with tempfile.TemporaryDirectory() as results:
        trainer = assembly(arguments.data, results).trainer()
        set_learning_rate(trainer.state.optimizer, 1e-4)
        times: dict[str, list[float]] = {"bare": [], "trainer": []}
        for turn in range(arguments.rounds + 1):
            plan = trainer.plan.epoch(0)
            start = time.perf_counter()
            bare_epoch(trainer, trainer.loader, plan)
            middle = time.perf_counter()
            trainer.state.epoch = trainer.state.step = trainer.state.iteration = 0
            trainer.train_epoch(plan)
            end = time.perf_counter()
            if turn:  # the first is a warm-up
                times["bare"].append(middle - start)
                times["trainer"].append(end - middle)
                print(f"bare {middle - start:.2f} s, trainer {end - middle:.2f} s", flush=True)
    bare, ours = (statistics.median(times[side]) for side in ("bare", "trainer"))
    threads = torch.get_num_threads()
    print(
        f"overhead {100 * (ours / bare - 1):+.1f} % (medians of {arguments.rounds}, {threads} threads)"
    )


if __name__ == "__main__":
    main()
