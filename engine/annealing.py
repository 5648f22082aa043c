"""The momentum of batch norms as a function of the position in training."""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvnets.layers.norm import MomentumAnnealingOptions
from optim import SchedulePlan


class MomentumAnnealing:
    """Lets the momentum of batch norms fall to `final_momentum_value`; nothing if not enabled.

    Every norm starts from its own momentum. By iterations it falls from the end of the warm-up to
    the last step, by epochs with the share of the epochs that lie behind; the warm-up itself keeps
    the first value. A pure function of (epoch, iteration), so a resume needs no state.
    """

    def __init__(self, options: MomentumAnnealingOptions, plan: SchedulePlan, model: nn.Module):
        self.options, self.plan = options, plan
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if options.enable else []
        # torch's momentum of None is a plain mean over all batches, which nothing can slow down
        self.start = {norm: norm.momentum for norm in norms if norm.momentum is not None}

    def __call__(self, epoch: int, iteration: int) -> None:
        """Set the momentum of all norms that are in training mode, before a step."""
        share = self.progress(epoch, iteration)
        if self.options.anneal_type == "cosine":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        for norm, start in self.start.items():
            if norm.training:
                norm.momentum = start + (self.options.final_momentum_value - start) * share

    def progress(self, epoch: int, iteration: int) -> float:
        """Share of the fall that lies behind, 0 .. 1."""
        plan = self.plan
        if iteration < plan.warmup_iterations:
            return 0.0
        if not plan.is_iteration_based:
            return min(1.0, epoch / plan.max_epochs)
        length = max(1, plan.max_iterations - plan.warmup_iterations)
        return min(1.0, (iteration - plan.warmup_iterations) / length)
