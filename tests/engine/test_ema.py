"""The moving average against the reference trace."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.ema import ModelEma

TRACE = Path(__file__).parent.parent / "reference" / "traces" / "ema.json"
# the case of integer counters records what the official code truncates; ours copies them
CASES = [case for case in json.loads(TRACE.read_text())["cases"] if "steps" in case]


class Traced(nn.Module):
    def __init__(self, init):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(init["w"]))
        self.register_buffer("running_mean", torch.tensor(init["running_mean"]))
        self.register_buffer("num_batches_tracked", torch.tensor(init["num_batches_tracked"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_follows_the_reference(case):
    """Parameters and running statistics; the counter is copied, where the official code truncates."""
    model = Traced(case["init"])
    ema = ModelEma(model, case["momentum"])
    generator = np.random.default_rng(77)
    for number, step in enumerate(case["steps"], 1):
        with torch.no_grad():
            model.w.copy_(torch.from_numpy(generator.standard_normal(3)))
            model.running_mean.copy_(torch.from_numpy(generator.standard_normal(2)))
            model.num_batches_tracked += 100
        ema.update()
        np.testing.assert_allclose(ema.model.w.detach(), step["w"], rtol=2e-6)
        np.testing.assert_allclose(ema.model.running_mean, step["running_mean"], rtol=2e-6)
        assert ema.model.num_batches_tracked == 100 * number


def test_is_in_evaluation_mode_and_needs_no_gradient():
    ema = ModelEma(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(), 0.5)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
