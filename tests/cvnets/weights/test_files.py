"""Reading weights from files: what is accepted, and the line for every mistake."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from torch import nn

from cvnets.weights.files import read_weights


def net(classes: int = 3, width: int = 4) -> nn.Module:
    parts = OrderedDict(stem=nn.Conv2d(3, width, 1), norm=nn.BatchNorm2d(width))
    parts["classifier"] = nn.Sequential(OrderedDict(fc=nn.Linear(width, classes)))
    return nn.Sequential(parts)


# --- reading -------------------------------------------------------------------------------------


def test_state_dicts_and_training_checkpoints(file):
    state = net().state_dict()
    training = {"model_state_dict": state, "epoch": 3, "best_metric": 71.5, "optim_state_dict": {}}
    for content in (state, dict(state), training):
        found = read_weights(file(content))
        assert list(found.state) == list(state)
        assert all(torch.equal(found.state[key], state[key]) for key in state)
        assert found.metadata == {}


def test_a_training_checkpoint_holds_several_weights(file, message):
    state = net().state_dict()
    averaged = {key: value + 1 for key, value in state.items()}
    for model, ema in (
        ("model_state_dict", "ema_state_dict"),
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
    ):
        path = file({model: state, ema: averaged, "epoch": 3})
        plain, average = read_weights(path), read_weights(path, ema=True)
        assert (plain.part, plain.other_parts) == (model, (ema,))
        assert (average.part, average.other_parts) == (ema, (model,))
        assert torch.equal(average.state["stem.weight"], state["stem.weight"] + 1)
    assert read_weights(file({"model_ema": averaged})).part == "model_ema"
    path = file({"model": state})
    assert message(read_weights, path, ema=True) == (
        f"{path}: holds no averaged weights (ema_state_dict, state_dict_ema, model_ema)"
    )


def test_options_beside_the_weights_are_read_over(file):
    """As training scripts save them; they hold no code."""
    state = net().state_dict()
    found = read_weights(file({"state_dict": state, "args": Namespace(lr=0.1)}))
    assert found.state.keys() == state.keys()


def test_averages_of_torch_and_both_kinds_of_names(file, message):
    state = net().state_dict()
    averaged = {f"module.{key}": value for key, value in state.items()}
    path = file(averaged | {"n_averaged": torch.tensor(3)})
    assert read_weights(path).state.keys() == state.keys()
    path = file({"_orig_mod.a": torch.ones(1), "a": torch.ones(1)})
    assert message(read_weights, path) == (
        f"{path}: has entries both with and without _orig_mod.; keep one kind"
    )


def test_safetensors(tmp_path, monkeypatch, message):
    library = pytest.importorskip("safetensors.torch")
    state, path = net().state_dict(), tmp_path / "w.safetensors"
    library.save_file(state, path, {"cvnets": '{"classes": ["ant"]}'})
    found = read_weights(path)
    assert found.metadata == {"classes": ["ant"]}
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[key], state[key]) for key in state)
    assert message(read_weights, path, ema=True).startswith(f"{path}: holds no averaged weights")
    whole = path.read_bytes()
    library.save_file({}, path)
    assert message(read_weights, path) == f"{path}: holds no weights"
    for metadata in ("{not json", "[1]"):
        library.save_file(state, path, {"cvnets": metadata})
        assert "metadata that are not ours" in message(read_weights, path)
    for content in (b"", b"hello", whole[:-9], whole[:40]):
        path.write_bytes(content)
        assert message(read_weights, path) == (
            f"{path}: is no whole safetensors file (size {len(content):,} bytes)"
        )
    path.unlink()
    assert message(read_weights, path) == f"{path}: no such file"
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert message(read_weights, path) == (
        f"{path}: needs the library safetensors; pip install safetensors"
    )


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_are_taken_off(file, prefix):
    state = net().state_dict()
    path = file({prefix + key: value for key, value in state.items()})
    assert list(read_weights(path).state) == list(state)


def test_a_part_that_is_called_module_keeps_its_name(file):
    state = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert list(read_weights(file(state)).state) == list(state)


def test_metadata_travels_with_the_weights(file):
    state = net().state_dict()
    about = {"format": 1, "classes": ["ant", "bee"], "metric": {"top1": 71.5}}
    state._metadata["cvnets"] = about
    for content in (state, {"model_state_dict": state}):
        assert read_weights(file(content)).metadata == about


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_files_that_are_no_checkpoints(file, tmp_path, message):
    def text_file(content):
        (tmp_path / "x.pt").write_bytes(content)
        return tmp_path / "x.pt"

    missing = tmp_path / "none.pt"
    assert message(read_weights, missing) == f"{missing}: no such file"
    assert message(read_weights, tmp_path) == f"{tmp_path}: cannot be read (Is a directory)"
    for content in (b"", b"hello world", b"<!DOCTYPE html>", b"\x00" * 40):
        path = text_file(content)
        expected = f"{path}: is no checkpoint written by torch.save (size {len(content):,} bytes)"
        assert message(read_weights, path) == expected
    whole = file(net().state_dict()).read_bytes()
    path = text_file(whole[: len(whole) * 2 // 3])
    assert message(read_weights, path).startswith(f"{path}: is damaged or cut off (size ")
    path = file({"stem.weight": torch.ones(1), "epoch": 3})
    assert message(read_weights, path) == (
        f"{path}: is no checkpoint of weights: entry 'epoch' is int, not a named tensor"
    )
    assert "entry 7 is Tensor, not a named tensor" in message(
        read_weights, file({7: torch.ones(1)})
    )
    path = file(torch.ones(2))
    assert message(read_weights, path) == f"{path}: holds a Tensor, not the weights of a network"
    path = file({})
    assert message(read_weights, path) == f"{path}: holds no weights"


def test_code_in_a_file_is_never_run(file, tmp_path, message):
    trace = tmp_path / "trace"
    for content, name in (
        ({"a": Evil(trace)}, f"{os.mkdir.__module__}.mkdir"),
        (
            {"model_state_dict": net().state_dict(), "a": Evil(trace)},
            f"{os.mkdir.__module__}.mkdir",
        ),
    ):
        path = file(content)
        assert message(read_weights, path) == (
            f"{path}: holds Python objects ({name}) beside tensors, and loading them could run "
            f"any code; save the state dict alone"
        )
    assert not trace.exists()


def test_damaged_files_give_one_line_each(file, tmp_path, message):
    draw = random.Random(7)
    whole = file(net().state_dict()).read_bytes()
    lines = []
    for number in range(60):
        content = bytearray(whole)
        for _ in range(draw.choice([5, 50, 500])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path = tmp_path / f"damaged{number}.pt"
        path.write_bytes(content)
        with contextlib.suppress(_Readable):  # the bytes that changed may be weights
            lines.append((message(_load_or_say, path), str(path)))
    assert len(lines) > 40
    assert [line for line, path in lines if not line.startswith(f"{path}: ")] == []


class _Readable(Exception):
    pass


def _load_or_say(path):
    read_weights(path)
    raise _Readable
