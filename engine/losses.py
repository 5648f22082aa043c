"""The loss of a run: the one of its task, one that reads a teacher, or a weighted sum of several."""

from __future__ import annotations

from collections import Counter
from functools import cache

from torch import nn

from engine.task import Task
from engine.teacher import build_teacher
from loss_fn.composite import CompositeLoss
from loss_fn.kinds import DISTILLATION_LOSSES
from loss_fn.section import COMPOSITE, DISTILLATION, RANGE_AUGMENT, LossesSection, TermSection


def build_loss(task: Task) -> nn.Module:
    """`loss(images, outputs, targets) -> LossOutput` as `loss.category` says."""
    section = task.recipe.loss

    @cache
    def teacher() -> nn.Module:  # one for all terms
        return build_teacher(task)

    def single(section: LossesSection, category: str) -> nn.Module:
        if category != DISTILLATION:
            return task.build_loss(section)
        loss: nn.Module = DISTILLATION_LOSSES.build(section.distillation, teacher=teacher())
        return loss

    if section.category != COMPOSITE:
        return single(section, section.category or task.kind)
    terms = _named(section.composite_loss)
    return CompositeLoss(
        [(name, term.loss_weight, single(term, term.loss_category)) for name, term in terms]
    )


def _named(terms: tuple[TermSection, ...]) -> list[tuple[str, TermSection]]:
    """Each with its category as its name, numbered where a category comes more than once."""
    built = [term for term in terms if term.loss_category != RANGE_AUGMENT]
    total, seen = Counter(term.loss_category for term in built), Counter[str]()
    named = []
    for term in built:
        kind = term.loss_category
        seen[kind] += 1
        named.append((f"{kind}_{seen[kind]}" if total[kind] > 1 else kind, term))
    return named
