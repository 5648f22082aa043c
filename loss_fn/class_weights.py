"""Weights of classes from how often they occur in a micro-batch."""

from __future__ import annotations

import torch
from torch import Tensor


def label_counts(labels: Tensor, classes: int, *, ignore_index: int) -> Tensor:
    """How often each class occurs in `labels` [N], int64 [classes]; ignored labels do not count."""
    candidates = torch.arange(classes, device=labels.device)
    hits = (labels[:, None] == candidates) & (labels != ignore_index)[:, None]
    return hits.sum(dim=0)


def class_weights(counts: Tensor) -> Tensor:
    """1 / ln(1.1 + share of the class), and 0 for a class that is absent; dtype of the counts."""
    counts = counts if counts.is_floating_point() else counts.float()
    total = counts.sum()
    share = counts / torch.where(total > 0, total, 1.0)
    return torch.where(counts > 0, 1.0 / torch.log(1.1 + share), 0.0)
