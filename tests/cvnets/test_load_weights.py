"""Reading weights from files: what is accepted, what is fitted, and the line for every mistake."""

from __future__ import annotations

import contextlib
import os
import random
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from torch import nn

import cvnets
from config.errors import UserError
from cvnets.weights.load import load_state


def net(classes: int = 3, width: int = 4) -> nn.Module:
    parts = OrderedDict(stem=nn.Conv2d(3, width, 1), norm=nn.BatchNorm2d(width))
    parts["classifier"] = nn.Sequential(OrderedDict(fc=nn.Linear(width, classes)))
    return nn.Sequential(parts)


@pytest.fixture
def file(tmp_path):
    """Save an object, return the path."""

    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def message(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- reading -------------------------------------------------------------------------------------


def test_state_dicts_and_training_checkpoints(file):
    state = net().state_dict()
    training = {"model_state_dict": state, "epoch": 3, "best_metric": 71.5, "optim_state_dict": {}}
    for content in (state, dict(state), training):
        loaded, metadata = load_state(file(content))
        assert list(loaded) == list(state)
        assert all(torch.equal(loaded[key], state[key]) for key in state)
        assert metadata == {}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_are_taken_off(file, prefix):
    state = net().state_dict()
    loaded, _ = load_state(file({prefix + key: value for key, value in state.items()}))
    assert list(loaded) == list(state)


def test_a_part_that_is_called_module_keeps_its_name(file):
    state = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert list(load_state(file(state))[0]) == list(state)


def test_metadata_travels_with_the_weights(file):
    state = net().state_dict()
    about = {"format": 1, "classes": ["ant", "bee"], "metric": {"top1": 71.5}}
    state._metadata["cvnets"] = about
    for content in (state, {"model_state_dict": state}):
        assert load_state(file(content))[1] == about
    report = cvnets.load_weights(net(), file(state))
    assert len(report.loaded) == len(state)


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_files_that_are_no_checkpoints(file, tmp_path):
    def text_file(content):
        (tmp_path / "x.pt").write_bytes(content)
        return tmp_path / "x.pt"

    missing = tmp_path / "none.pt"
    assert message(load_state, missing) == f"{missing}: no such file"
    assert message(load_state, tmp_path) == f"{tmp_path}: cannot be read (Is a directory)"
    for content in (b"", b"hello world", b"<!DOCTYPE html>", b"\x00" * 40):
        path = text_file(content)
        expected = f"{path}: is no checkpoint written by torch.save (size {len(content):,} bytes)"
        assert message(load_state, path) == expected
    whole = file(net().state_dict()).read_bytes()
    path = text_file(whole[: len(whole) * 2 // 3])
    assert message(load_state, path).startswith(f"{path}: is damaged or cut off (size ")
    path = file({"stem.weight": torch.ones(1), "epoch": 3})
    assert message(load_state, path) == (
        f"{path}: is no checkpoint of weights: entry 'epoch' is int, not a named tensor"
    )
    assert "entry 7 is Tensor, not a named tensor" in message(load_state, file({7: torch.ones(1)}))
    path = file(torch.ones(2))
    assert message(load_state, path) == f"{path}: holds a Tensor, not the weights of a network"
    path = file({})
    assert message(load_state, path) == f"{path}: holds no weights"


def test_code_in_a_file_is_never_run(file, tmp_path):
    trace = tmp_path / "trace"
    for content, name in (
        ({"a": Evil(trace)}, f"{os.mkdir.__module__}.mkdir"),
        ({"model_state_dict": net().state_dict(), "opts": Namespace(a=1)}, "argparse.Namespace"),
    ):
        path = file(content)
        assert message(load_state, path) == (
            f"{path}: holds Python objects ({name}) beside tensors, and loading them could run "
            f"any code; save the state dict alone"
        )
    assert not trace.exists()


def test_damaged_files_give_one_line_each(file, tmp_path):
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
    load_state(path)
    raise _Readable


# --- fitting -------------------------------------------------------------------------------------


def test_a_matching_file_is_loaded_whole(file):
    source, target = net(), net()
    report = cvnets.load_weights(target, path := file(source.state_dict()))
    for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert report.lines() == [f"{path}: loaded 9 of 9 entries"]


@pytest.mark.parametrize("exclude", ["classifier.*", ["classifier"], r" nothing , classifier\.fc"])
def test_excluded_entries_start_anew(file, exclude):
    source, target = net(classes=5), net(classes=3)
    fresh = target.classifier.fc.weight.clone()
    report = cvnets.load_weights(target, path := file(source.state_dict()), exclude=exclude)
    assert torch.equal(target.stem.weight, source.stem.weight)
    assert torch.equal(target.classifier.fc.weight, fresh)
    assert report.lines() == [
        f"{path}: loaded 7 of 9 entries",
        "  re-initialised classifier.fc.weight: (3, 4) here, (5, 4) in the file",
        "  re-initialised classifier.fc.bias: (3,) here, (5,) in the file",
    ]


def test_entries_that_only_one_side_has(file):
    state = net().state_dict()
    state["extra.weight"] = torch.ones(1)
    del state["norm.bias"]
    path = file(state)
    report = cvnets.load_weights(net(), path, exclude="extra", ignore_missing="norm.*")
    assert report.lines() == [
        f"{path}: loaded 8 of 9 entries",
        "  re-initialised norm.bias: (4,) here, not in the file",
        "  ignored 1 entries of the file: extra.weight",
    ]


def test_patterns_match_from_the_start_of_a_name(file):
    path = file(net(classes=5).state_dict())
    assert "fc.weight is (5, 4)" in message(cvnets.load_weights, net(), path, exclude="fc.*")


def test_renaming_follows_excluding(file):
    """Patterns of `exclude` see the names in the file; the pairs are applied one after the other."""
    state = {key.replace("stem", "first"): value for key, value in net().state_dict().items()}
    rules = [("^first", "second"), ("second", "stem")]
    target = net()
    cvnets.load_weights(target, path := file(state), rename=rules)
    assert torch.equal(target.stem.weight, state["first.weight"])
    assert "the file lacks 2 of 9" in message(
        cvnets.load_weights, net(), path, rename=rules, exclude="first"
    )
    assert message(cvnets.load_weights, net(), path, rename=[("weight|bias", "x")]) == (
        f"model.rename_scopes_map: two entries of {path} become 'first.x'"
    )


def test_what_does_not_fit_is_named_in_one_line(file):
    path = file(net(classes=5).state_dict())
    target = net()
    before = target.stem.weight.clone()
    assert message(cvnets.load_weights, target, path) == (
        f"{path}: classifier.fc.weight is (5, 4) in the file and (3, 4) here, "
        f"classifier.fc.bias is (5,) in the file and (3,) here: "
        f'add model.resume_exclude_scopes="classifier.*" to start anew there'
    )
    assert torch.equal(target.stem.weight, before)
    state = net().state_dict()
    path = file(
        {k: v for k, v in state.items() if not k.startswith("norm.")} | {"a.b": torch.ones(1)}
    )
    assert message(cvnets.load_weights, target, path) == (
        f"{path}: the file lacks 5 of 9 entries (norm.weight, norm.bias, norm.running_mean and 2 more): "
        f'add model.ignore_missing_scopes="norm.*" if they may start anew; '
        f"1 of its 5 entries are unknown here (a.b): "
        f'add model.resume_exclude_scopes="a.*" to leave them out'
    )
    path = file({"layer1.0.weight": torch.ones(1), "layer1.0.bias": torch.ones(1)})
    assert message(cvnets.load_weights, target, path) == (
        f"{path}: none of its 2 entries is in this network of 9 (file: layer1.0.weight, layer1.0.bias; "
        f"here: stem.weight, stem.bias, norm.weight and 6 more): the file belongs to another network"
    )
    assert message(cvnets.load_weights, target, path, exclude="(") == (
        "model.resume_exclude_scopes: '(' is no regular expression "
        "(missing ), unterminated subpattern at position 0)"
    )


def test_a_real_network_with_other_classes(file):
    source = cvnets.create_model("mobilevit_xx_small", n_classes=10)
    target = cvnets.create_model("mobilevit_xx_small", n_classes=7)
    path = file(source.state_dict())
    assert "classifier.fc.weight is (10, 320) in the file and (7, 320) here" in message(
        cvnets.load_weights, target, path
    )
    report = cvnets.load_weights(target, path, exclude="classifier.*")
    assert (len(report.loaded), len(report.reinitialised)) == (309, 2)
