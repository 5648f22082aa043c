"""The order in which an epoch visits the samples, a pure function of its words (seed, epoch, ...)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data.sampler.seeds import permutation

Indices = npt.NDArray[np.int64]


def sample_order(
    dataset_size: int,
    *words: int,
    labels: Indices | None = None,
    num_repeats: int = 1,
    truncate: bool = False,
) -> Indices:
    """Sample indices, int64 [positions]: each sample once, in random order.

    With `labels` (int64, the class of each sample) each class comes equally often instead.
    Repeated augmentation (Hoffer et al., Augment your batch, CVPR 2020): each index `num_repeats`
    times in a row, cut back to the size of the data set by `truncate`.
    """
    order = permutation(dataset_size, *words) if labels is None else balanced(labels, *words)
    if num_repeats > 1:
        order = np.repeat(order, num_repeats)[: dataset_size if truncate else None]
    return order


def balanced(labels: Indices, *words: int) -> Indices:
    """As many indices as there are labels, in random order, each class equally often.

    Where the length is no multiple of the number of classes, some classes, others in each epoch, come
    once more. A class with too few images starts again when all of them have come; of one with too
    many, each epoch takes others.
    """
    by_class = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[by_class], return_index=True)
    quota, extra = divmod(len(labels), max(1, len(classes)))
    quotas = np.full(len(classes), quota)
    quotas[permutation(len(classes), *words)[:extra]] += 1
    drawn = [
        members[_cycled(len(members), int(count), *words, int(label))]
        for label, count, members in zip(
            classes, quotas, np.split(by_class, starts[1:]), strict=True
        )
        if count
    ]
    order = np.concatenate(drawn) if drawn else by_class
    return order[permutation(len(order), *words)]


def _cycled(size: int, count: int, *words: int) -> Indices:
    """`count` of the numbers below `size`: one random order of them after the other."""
    cycles = -(-count // size)
    return np.concatenate([permutation(size, *words, cycle) for cycle in range(cycles)])[:count]
