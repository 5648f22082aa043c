"""Autocast, clipping, and what is said when a wish cannot be met."""

import pytest
import torch
from torch import nn

from engine.precision import BufferGuard, Precision
from engine.settings import CommonOptions
from optim import OPTIMIZERS, OptimSection, set_learning_rate


def precision(**options):
    return Precision(CommonOptions(**options), torch.device("cpu"))


def test_float16_on_the_cpu_is_float32_and_says_so():
    made = precision(mixed_precision=True)
    assert made.dtype is None
    assert "needs a GPU" in made.reason


def test_bfloat16_on_the_cpu_is_autocast():
    made = precision(mixed_precision=True, mixed_precision_dtype="bfloat16")
    assert made.reason == ""
    with made.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype is torch.bfloat16


@pytest.mark.parametrize("clip", [None, 0.5])
def test_clipping_and_norm_by_hand(clip):
    """A gradient of (3, 4) has the norm 5; SGD with rate 1 moves by it, or by (0.3, 0.4)."""
    from optim.optimizers import SgdOptions

    weight = nn.Parameter(torch.zeros(2))
    group = {"params": [weight], "weight_decay": 0.0, "lr_multiplier": 1.0, "names": ["weight"]}
    section = OptimSection(name="sgd")
    object.__setattr__(section, "sgd", SgdOptions(momentum=0.0))
    optimizer = OPTIMIZERS.build(section, groups=[group])
    set_learning_rate(optimizer, 1.0)
    weight.grad = torch.tensor([3.0, 4.0])
    outcome = precision(grad_clip=clip).step(optimizer, [weight], torch.tensor(1.0))
    assert outcome.tolist() == pytest.approx([5.0, 0.0])
    expected = [-3.0, -4.0] if clip is None else [-0.3, -0.4]
    assert weight.tolist() == pytest.approx(expected, rel=1e-5)


def test_guard_restores_statistics_only_where_asked():
    norm = nn.BatchNorm1d(2)
    guard = BufferGuard(norm)
    guard.save()
    norm(torch.full((4, 2), float("nan")))
    guard.restore_if(torch.tensor(True))
    assert norm.running_mean.tolist() == [0.0, 0.0]
    norm(torch.randn(4, 2))
    moved = norm.running_mean.clone()
    guard.restore_if(torch.tensor(False))
    assert torch.equal(norm.running_mean, moved)
