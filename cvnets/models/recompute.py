"""Gradient checkpointing: run a stage again in the backward pass rather than keep its inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_recomputed(stage: nn.Module, maps: Tensor) -> Tensor:
    """`stage(maps)` with the inside of the stage computed again for the gradient.

    Results, gradients, dropout and running statistics are those of a plain call.
    """
    if torch.compiler.is_compiling():  # the compiler recomputes values only, not updates
        return checkpoint(stage, maps, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(stage)

    return checkpoint(stage, maps, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Batch norms inside `stage` work as ever, but count into copies of their statistics."""
    norms = [m for m in stage.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    try:
        for norm, buffers in kept:
            for name, value in buffers.items():
                setattr(norm, name, value.clone())
        yield
    finally:
        for norm, buffers in kept:
            for name, value in buffers.items():
                setattr(norm, name, value)
