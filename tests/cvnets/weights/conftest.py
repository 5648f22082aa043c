"""Files of weights, and the line that a mistake gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from config.errors import UserError


@pytest.fixture
def file(tmp_path) -> Callable[..., Path]:
    """Save an object, return the path."""

    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture(scope="session")
def message() -> Callable[..., str]:
    """The one line of the UserError that a call raises."""

    def line(call, *args, **kwargs) -> str:
        with pytest.raises(UserError) as error:
            call(*args, **kwargs)
        assert "\n" not in str(error.value)
        return str(error.value)

    return line
