"""Mistakes with run folders, and what the machine refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from unittest import mock

from tests.mistakes.case import WEIGHTS, Case, cut, write

AGAIN = "train recipe.yaml common.auto_resume=true"


def disk_full() -> contextlib.AbstractContextManager:
    """The disk is full when the training state is flushed."""
    flush = os.fsync

    def fsync(number: int) -> None:
        if "training_checkpoint_last.pt" in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(number)

    return mock.patch("os.fsync", fsync)


def without_gpu() -> contextlib.AbstractContextManager:
    return mock.patch("torch.cuda.device_count", return_value=0)


MACHINE = [
    Case("the folder holds a run already", after_run=True),
    Case(
        "another recipe on resume",
        words=f"{AGAIN} optim.weight_decay=0.5 sampler.bs.crop_size_width=16",
        after_run=True,
    ),
    Case("no state to resume from", words="train recipe.yaml common.resume=no.pt"),
    Case(
        "weights in place of a state",
        words=f"train recipe.yaml common.resume={WEIGHTS} common.run_label=b",
        after_run=True,
    ),
    Case(
        "a truncated state",
        words=AGAIN,
        after_run=True,
        prepare=cut("results/run/training_checkpoint_last.pt", 0.5),
    ),
    Case("a file in the way of the results", prepare=write("results", "")),
    Case(
        "a file in the way of the results of an evaluation",
        words="eval recipe.yaml model.classification.pretrained=w.pt common.results_loc=w.pt",
        after_run=True,
        prepare=lambda folder: shutil.copy(folder / WEIGHTS, folder / "w.pt"),
    ),
    Case("the disk is full", patch=disk_full, late=True),
    Case("no GPU", words="train recipe.yaml common.device=cuda", patch=without_gpu),
    Case("no such GPU", words="train recipe.yaml common.device=cuda:3", patch=without_gpu),
    Case("no Apple GPU", words="train recipe.yaml common.device=mps"),
]
