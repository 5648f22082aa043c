"""Processes: who am I, on which device, and what the ranks tell each other.

Every collective of the engine stands in this file or is DDP's own.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from config.errors import UserError
from config.options import OPERATIONAL, Options


class DistributedOptions(Options):
    """`ddp`: processes are started by torchrun; these options say how they talk."""

    backend: Literal["auto", "nccl", "gloo"] = Field(
        "auto",
        description="auto: nccl for GPUs, gloo for CPUs",
        json_schema_extra=OPERATIONAL,
    )


CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes files."""
        return self.rank == 0


@contextmanager
def join_world(options: DistributedOptions, device: str) -> Iterator[World]:
    """The process group that torchrun describes in the environment, or a world of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(0, 1, chosen)
        return
    if options.backend == "nccl" and chosen.type != "cuda":
        raise UserError(
            f"ddp.backend: nccl needs GPUs, and this is {chosen.type}; leave it at auto"
        )
    nccl = chosen.type == "cuda" if options.backend == "auto" else options.backend == "nccl"
    # gloo next to NCCL: records and stop flags travel between CPUs, never through a GPU stream
    backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def choose_device(name: str, local_rank: int) -> torch.device:
    """The device called `name`; `auto` is this rank's GPU if there is one, else MPS, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        elif torch.backends.mps.is_available():
            name = "mps"
        else:
            name = "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        index = int(name.partition(":")[2] or local_rank)
        if index >= count:
            raise UserError(
                f"common.device: {name} asked for, but {count} GPU(s) are visible; use auto"
            )
        return torch.device("cuda", index)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("common.device: mps asked for, but this machine has none; use cpu")
    return torch.device(name)


def gather(record: Any, world: World) -> list[Any]:
    """The records of all ranks, in rank order, on every rank."""
    if world.size == 1:
        return [record]
    records: list[Any] = [None] * world.size
    dist.all_gather_object(records, record)
    return records


def sum_over_ranks(tensor: Tensor, world: World) -> Tensor:
    """The elementwise sum over all ranks, on every rank."""
    if world.size > 1:
        dist.all_reduce(tensor)
    return tensor


@torch.no_grad()
def share_buffers(models: Iterable[nn.Module], world: World) -> None:
    """Give every rank the buffers of rank 0.

    Batch norm counts its running statistics on each rank from that rank's images; the ones that
    are saved, and therefore the ones to evaluate with, are those of rank 0.
    """
    if world.size > 1:
        for model in models:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def barrier(world: World) -> None:
    """Wait until all ranks are here."""
    gather(None, world)


GO_ON, SAVE, STOP = 0, 1, 2


class StopSignal:
    """Ctrl-C and SIGTERM ask for a stop after the current step; a second Ctrl-C stops at once.

    `agree` is called by all ranks after each step, and answers with the strongest wish that a
    rank had one step before, so that nobody waits for anybody inside a step.
    """

    def __init__(self, world: World):
        self.requested = False
        self._world = world
        self._wish = torch.zeros(1)
        self._work: dist.Work | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def agree(self, *, save: bool) -> int:
        """GO_ON, SAVE or STOP, the same on all ranks; `save` is this rank's wish to save."""
        wish = STOP if self.requested else SAVE if save else GO_ON
        if self._world.size == 1:
            return wish
        agreed = self.finish()
        self._wish = torch.full((1,), float(wish))
        self._work = dist.all_reduce(self._wish, op=dist.ReduceOp.MAX, async_op=True)
        if agreed != GO_ON:
            self.finish()  # what follows are other collectives
        return agreed

    def finish(self) -> int:
        """Wait for the exchange under way, if any; the wish that it agreed on."""
        if self._work is None:
            return GO_ON
        self._work.wait()
        self._work = None
        return int(self._wish.item())


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
