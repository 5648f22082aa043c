"""The images that a training sees first, for pictures of them."""

from __future__ import annotations

from contextlib import closing

from data.loader import Loader, Source
from data.sample import Batch
from data.sampler.plan import plan_epoch
from engine.parts import build_sampler
from engine.task import Task

SAMPLES = 16
SAMPLES_PER_BATCH = 2  # few, so that several image sizes are seen
PICTURE = "samples.png"


def first_of_training(
    task: Task, source: Source
) -> tuple[list[tuple[Batch, int]], tuple[str, ...]]:
    """Up to 16 images after augmentation, each a batch and a place in it; why others are bad."""
    found, unreadable = list[tuple[Batch, int]](), list[str]()
    plan = plan_epoch(
        seed=task.recipe.common.seed,
        epoch=0,
        dataset_size=len(source),
        sizes=build_sampler(task.recipe, SAMPLES_PER_BATCH).sizes(0),
        micro_batches=1,
    )
    with closing(Loader(source).training(plan)) as batches:
        for batch in batches:
            unreadable += [replaced.reason for replaced in batch.replaced]
            found += [(batch, place) for place in range(len(batch))]
            if len(found) >= SAMPLES:
                break
    return found[:SAMPLES], tuple(unreadable)
