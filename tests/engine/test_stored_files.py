"""Every format of weights that was ever written stays readable: files of all of them are kept here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from cvnets.weights.files import read_weights
from cvnets.weights.preprocessing import recorded

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = {"dark": 0.51980, "light": 0.48020}  # of a grey image, by plain tensor operations
FILES = sorted((ROOT / "stored").glob("weights_*"))


def test_all_formats_are_kept():
    assert [path.name for path in FILES] == [
        "weights_1.pt",
        "weights_2.pt",
        "weights_2.safetensors",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_stored_file_predicts_what_it_did(path):
    """The network of two classes was trained from one seed: all files hold the same weights."""
    file = read_weights(path)
    assert file.metadata["classes"] == ["dark", "light"]
    about = recorded(file.metadata)
    assert (about.channel_order, about.mean, about.std) == ("RGB", (0, 0, 0), (1, 1, 1))
    predictor = engine.load(path, [f"common.plugins={ROOT / 'plugins/tiny_models.py'}"])
    first = read_weights(FILES[0]).state
    assert all(torch.equal(value, first[key]) for key, value in file.state.items())
    found = predictor.predict(np.full((24, 24, 3), 200, np.uint8))
    assert found.probabilities == pytest.approx(EXPECTED, abs=1e-4)
