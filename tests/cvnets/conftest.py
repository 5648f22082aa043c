"""Networks filled with the weights of the reference figures, and how to compare with these."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

REFERENCE = Path(__file__).parents[1] / "reference"


def _load_fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_fill", REFERENCE / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILL = _load_fill()


class Reference:
    """The weights and images of the official figures, and how to compare with these."""

    @staticmethod
    def fill(network: nn.Module, prefix: str = "") -> nn.Module:
        """`network` in float64 and eval mode; `prefix`: of its names in the official model."""
        network.double().eval()
        state = {
            key: torch.from_numpy(np.asarray(FILL.fill_array(prefix + key, value.shape)))
            for key, value in network.state_dict().items()
        }
        network.load_state_dict(state)
        return network

    @staticmethod
    def images(shape: list[int]) -> torch.Tensor:
        return torch.from_numpy(FILL.make_input(shape))

    @staticmethod
    def error(entry: dict, value: torch.Tensor) -> float:
        """Largest error over its allowance (relative 1e-6): up to 1 passes."""
        return FILL.compare(entry, value.detach().numpy())


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference()
