"""Files are written whole or not at all, and what travels with weights comes back."""

import errno
import os

import pytest
import torch
from torch import nn

from config.errors import UserError
from cvnets.weights.files import read_weights
from engine.checkpoint import read_state, save_state, save_weights, write_atomically, write_text


def test_metadata_travels_and_names_stay_official(tmp_path):
    path = tmp_path / "w.pt"
    save_weights(path, nn.Linear(2, 3), {"classes": ["a", "b"], "recipe": {"x.y": 1}})
    file = read_weights(path)
    state, metadata = file.state, file.metadata
    assert list(state) == ["weight", "bias"]
    assert metadata == {"classes": ["a", "b"], "recipe": {"x.y": 1}}
    plain = torch.load(path, weights_only=True)
    nn.Linear(2, 3).load_state_dict(plain)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    write_text(path, "old")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"state\.pt: cannot write: the disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_torch_save_on_a_full_device_is_one_line(tmp_path):
    def to_full_device(file):
        with open("/dev/full", "wb") as full:
            torch.save(torch.zeros(1 << 16), full)

    with pytest.raises(UserError) as caught:
        write_atomically(tmp_path / "x.pt", to_full_device)
    assert "cannot write" in caught.value.lines()[0]
    assert not list(tmp_path.iterdir())


def test_killed_while_writing_leaves_the_old_file(tmp_path):
    """The writer dies in the middle: what is under the name is still the old state."""
    save_state(tmp_path, {"epoch": 1})
    pid = os.fork()
    if pid == 0:

        def die(file):
            file.write(b"half")
            file.flush()
            os._exit(9)

        write_atomically(tmp_path / "training_checkpoint_last.pt", die)
    os.waitpid(pid, 0)
    assert read_state(tmp_path / "training_checkpoint_last.pt") == {"epoch": 1}
