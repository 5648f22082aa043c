"""From a plan to batches: this rank's micro-batches, in order, loaded by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from config.errors import UserError
from data.datasets.section import ImageDataset
from data.images import ImageError
from data.sample import Batch, Replacement, Sample, SampleKey
from data.sampler.plan import EpochPlan
from data.sampler.seeds import hashed

GRACE_SECONDS = 60  # that a worker lives after SIGTERM
MAX_REPLACEMENTS = 8  # images tried in place of an unreadable one


@dataclass(frozen=True)
class Source:
    """A split, ready to be loaded: everything in it is picklable.

    `transform(image uint8 [H, W, 3], target, key) -> Sample`; `collate(targets) -> Any` makes the
    batch's targets. `replace_bad`: an unreadable image is replaced (training) or an error.
    """

    dataset: ImageDataset
    transform: Callable[[npt.NDArray[np.uint8], Any, SampleKey], Sample]
    collate: Callable[[list[Any]], Any]
    replace_bad: bool

    def __len__(self) -> int:
        return len(self.dataset)


class _Fetcher(Dataset[Batch]):
    """Runs in the worker: keys in, a whole batch (or the user's mistake, as a value) out."""

    def __init__(self, source: Source):
        self.source = source

    def __getitems__(self, keys: list[SampleKey]) -> Batch | UserError:
        try:
            return self._batch(keys)
        except UserError as error:  # a worker would wrap it in a traceback
            return error

    def _batch(self, keys: list[SampleKey]) -> Batch:
        replaced: list[Replacement] = []
        samples = [self._sample(key, replaced) for key in keys]
        shapes = {tuple(sample.image.shape) for sample in samples}
        if len(shapes) > 1:
            raise UserError(
                f"images of different sizes in one batch ({sorted(shapes)}): set "
                "image_augmentation.center_crop, or a batch size of 1"
            )
        return Batch(
            images=stack([sample.image for sample in samples]),
            targets=self.source.collate([sample.target for sample in samples]),
            ids=tuple(key.index for key in keys),
            sizes=tuple(sample.size for sample in samples),
            replaced=tuple(replaced),
        )

    def _sample(self, key: SampleKey, replaced: list[Replacement]) -> Sample:
        image, target = self._load(key, replaced)
        torch.default_generator.manual_seed(key.seed)
        return self.source.transform(image, target, key)

    def _load(
        self, key: SampleKey, replaced: list[Replacement]
    ) -> tuple[npt.NDArray[np.uint8], Any]:
        dataset = self.source.dataset
        index, reason = key.index, ""
        for attempt in range(1, MAX_REPLACEMENTS + 1):
            try:
                loaded = dataset.load(index)
            except ImageError as error:
                if not self.source.replace_bad:
                    raise ImageError(f"{error}; repair or remove it") from None
                reason = reason or str(error)
                index = hashed(key.seed, attempt) % len(dataset)
                continue
            if reason:
                replaced.append(Replacement(key.index, index, reason))
            return loaded
        raise UserError(f"{reason}; {MAX_REPLACEMENTS - 1} images drawn to replace it are bad, too")


def stack(images: list[Tensor]) -> Tensor:
    """uint8 [3, H, W] each -> [B, 3, H, W] in channels-last memory, one copy."""
    channels, height, width = images[0].shape
    out = torch.empty((len(images), height, width, channels), dtype=torch.uint8)
    for place, image in zip(out, images, strict=True):
        place.copy_(image.permute(1, 2, 0))
    return out.permute(0, 3, 1, 2)


class _Dealer:
    """The batch sampler of one rank; `deal` sets what the next iteration yields."""

    def __init__(self, rank: int, world_size: int):
        self.rank, self.world_size = rank, world_size
        self._plan: EpochPlan | None = None
        self._start, self._by_step = 0, True

    def deal(self, plan: EpochPlan, start: int, by_step: bool) -> None:
        self._plan, self._start, self._by_step = plan, start, by_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        assert self._plan is not None
        for number, step in enumerate(self._plan.steps[self._start :], self._start):
            for m, micro in enumerate(step):
                if (m if self._by_step else number) % self.world_size == self.rank:
                    yield self._plan.keys(micro)


class Loader:
    """Batches of one rank. The same object serves all epochs, so that workers can persist."""

    def __init__(
        self,
        source: Source,
        *,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch_factor: int = 2,
        persistent_workers: bool = False,
        pin_memory: bool = False,
        context: str | None = None,
    ):
        self.source = source
        self._dealer = _Dealer(rank, world_size)
        self._loader: DataLoader[Any] | None = DataLoader(
            _Fetcher(source),
            batch_sampler=self._dealer,
            collate_fn=_identity,
            num_workers=workers,
            prefetch_factor=prefetch_factor if workers else None,
            persistent_workers=persistent_workers and workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker,
            multiprocessing_context=context if workers else None,
            # own generator: the global one belongs to the trainer, and a base seed would use it up
            generator=torch.Generator().manual_seed(0),
        )

    def training(self, plan: EpochPlan, start: int = 0) -> Generator[Batch, None, None]:
        """This rank's micro-batches of the steps from `start` on."""
        return self._iterate(plan, start, by_step=True)

    def evaluation(self, plan: EpochPlan) -> Generator[Batch, None, None]:
        """Whole batches: number i goes to rank i mod R."""
        return self._iterate(plan, 0, by_step=False)

    def close(self) -> None:
        """End the workers. An error must not leave them: the interpreter would wait for them."""
        self._loader = None

    def _iterate(self, plan: EpochPlan, start: int, by_step: bool) -> Generator[Batch, None, None]:
        assert self._loader is not None, "the loader was closed"
        self._dealer.deal(plan, start, by_step)
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def _identity(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    """To stop is the trainer's business, which still needs its batches.

    Threads need no care: the DataLoader gives torch one, and decoding uses none of OpenCV's pool
    (whose size must not be set here: after a fork from a process that has used it, that hangs).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _outlive_briefly)


def _outlive_briefly(number: int, frame: FrameType | None) -> None:
    """A batch scheduler sends SIGTERM to all processes: the trainer has this long to finish."""
    signal.alarm(GRACE_SECONDS)
