"""How other libraries name the entries of our networks: one table per library and family.

A table is a list of (pattern, replacement) that turns our name into theirs, applied in order. A
name with `a|b|c` in it stands for several tensors: the equal blocks of rows of ours, in this order.
Checked against the outputs of timm's, transformers' and torchvision's own networks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from cvnets.weights.files import State

OFFICIAL = "cvnets"  # our own names, those of ml-cvnets and MobileViTv3
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Dialect:
    """The names of one library for one family of networks."""

    library: str
    rules: tuple[Rule, ...] = ()

    def names(self, key: str) -> tuple[str, ...]:
        """Their name for our `key`, or their names for its blocks of rows."""
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        blocks = re.search(r"\w+(?:\|\w+)+", key)
        if blocks is None:
            return (key,)
        return tuple(key.replace(blocks[0], block) for block in blocks[0].split("|"))

    def hits(self, own: Iterable[str], theirs: Collection[str]) -> int:
        """How many of our entries a file with `theirs` holds."""
        return sum(all(name in theirs for name in self.names(key)) for key in own)

    def read(self, state: State, own: Iterable[str]) -> State:
        """The entries of `state` under our names; what is none of ours keeps its name."""
        rest, read = dict(state), {}
        for key in own:
            names = self.names(key)
            if all(name in rest for name in names):
                parts = [rest.pop(name) for name in names]
                read[key] = parts[0] if len(parts) == 1 else torch.cat(parts)
        return {**read, **rest}

    def write(self, state: State) -> State:
        """The entries of `state`, which has our names, under theirs."""
        written: State = {}
        for key, value in state.items():
            names = self.names(key)
            blocks = value.chunk(len(names)) if len(names) > 1 else (value,)
            written.update(zip(names, blocks, strict=True))
        return written


def _earlier(number: str) -> int:
    return int(number) - 1


# --- timm ----------------------------------------------------------------------------------------

_TIMM_BYOB: tuple[Rule, ...] = (
    (r"^conv_1\.", "stem."),
    (r"^conv_1x1_exp\.", "final_conv."),
    (r"^classifier\.(fc|1)\.", "head.fc."),
    (r"^layer_(\d)", lambda found: f"stages.{_earlier(found[1])}"),
    (r"\.block\.exp_1x1", ".conv1_1x1"),
    (r"\.block\.conv_3x3", ".conv2_kxk"),
    (r"\.block\.red_1x1", ".conv3_1x1"),
    (r"local_rep\.(conv_3x3|0)\.", "conv_kxk."),
    (r"local_rep\.(conv_1x1|1)\.block\.conv", "conv_1x1"),
    (r"fusion", "conv_fusion"),
    (r"global_rep\.(\d+)\.pre_norm_(mha|attn)\.0", r"transformer.\1.norm1"),
    (r"global_rep\.(\d+)\.pre_norm_mha\.1\.qkv_proj", r"transformer.\1.attn.qkv"),
    (r"global_rep\.(\d+)\.pre_norm_mha\.1\.out_proj", r"transformer.\1.attn.proj"),
    (r"global_rep\.(\d+)\.pre_norm_attn\.1\.(\w+)\.block\.conv", r"transformer.\1.attn.\2"),
    (r"global_rep\.(\d+)\.pre_norm_ffn\.0", r"transformer.\1.norm2"),
    (r"global_rep\.(\d+)\.pre_norm_ffn\.1(\.block\.conv)?", r"transformer.\1.mlp.fc1"),
    (r"global_rep\.(\d+)\.pre_norm_ffn\.[34](\.block\.conv)?", r"transformer.\1.mlp.fc2"),
    (r"global_rep\.\d+", "norm"),
    (r"\bblock\.conv\b", "conv"),
    (r"\bblock\.norm\b", "bn"),
)

# --- transformers --------------------------------------------------------------------------------


def _transformers(prefix: str) -> tuple[Rule, ...]:
    encoder = f"{prefix}.encoder.layer"
    block = r"global_rep\.(\d+)\.pre_norm"
    return (
        (r"^encoder\.", ""),
        (r"^seg_head\.aspp\.aspp_layer\.", "segmentation_head.aspp."),
        (r"\.aspp_pool\.conv_1x1\.", ".conv_1x1."),
        (r"^seg_head\.classifier\.", "segmentation_head.classifier."),
        (r"^conv_1\.", f"{prefix}.conv_stem."),
        (r"^conv_1x1_exp\.", f"{prefix}.conv_1x1_exp."),
        (r"^classifier\.(fc|1)\.", "classifier."),
        (r"^layer_([12])\.", lambda found: f"{encoder}.{_earlier(found[1])}.layer."),
        (r"^layer_(\d)\.0\.", lambda found: f"{encoder}.{_earlier(found[1])}.downsampling_layer."),
        (r"^layer_(\d)\.1\.", lambda found: f"{encoder}.{_earlier(found[1])}."),
        (r"\.block\.exp_1x1", ".expand_1x1"),
        (r"\.block\.conv_3x3", ".conv_3x3"),
        (r"\.block\.red_1x1", ".reduce_1x1"),
        (r"local_rep\.(conv_3x3|0)\.", "conv_kxk."),
        (r"local_rep\.(conv_1x1|1)\.", "conv_1x1."),
        (r"conv_proj", "conv_projection"),
        (rf"{block}_(mha|attn)\.0", r"transformer.layer.\1.layernorm_before"),
        (
            rf"{block}_mha\.1\.qkv_proj",
            r"transformer.layer.\1.attention.attention.query|key|value",
        ),
        (rf"{block}_mha\.1\.out_proj", r"transformer.layer.\1.attention.output.dense"),
        (rf"{block}_attn\.1", r"transformer.layer.\1.attention"),
        (rf"{block}_ffn\.0", r"transformer.layer.\1.layernorm_after"),
        (rf"{block}_ffn\.1\.block", r"transformer.layer.\1.ffn.conv1"),
        (rf"{block}_ffn\.3\.block", r"transformer.layer.\1.ffn.conv2"),
        (rf"{block}_ffn\.1", r"transformer.layer.\1.intermediate.dense"),
        (rf"{block}_ffn\.4", r"transformer.layer.\1.output.dense"),
        (r"global_rep\.\d+", "layernorm"),
        (r"(\.block)?\.conv\.", ".convolution."),
        (r"\.block\.norm\.", ".normalization."),
    )


# --- MobileNetV2: both libraries count blocks by their own stages ---------------------------------

# Blocks in front of the n-th of our layers, in torchvision's one list; timm's stage and place.
_V2_BEFORE = {1: 1, 2: 2, 3: 4, 4: 7, 5: 14}
_V2_TIMM = {
    (layer, block): (stage, block - first)
    for layer, stage, first, count in (
        (1, 0, 0, 1), (2, 1, 0, 2), (3, 2, 0, 3), (4, 3, 0, 4), (4, 4, 4, 3), (5, 5, 0, 3), (5, 6, 3, 1),
    )
    for block in range(first, first + count)
}  # fmt: skip
_V2_UNIT = r"^layer_(\d)\.mv2_block_(\d)\.block\.(\w+)\.block\.(\w+)"
_CONVS = ("exp_1x1", "conv_3x3", "red_1x1")


def _v2_timm(found: re.Match[str]) -> str:
    stage, place = _V2_TIMM[int(found[1]), int(found[2])]
    first = stage == 0  # without expansion
    names = ("conv_dw", "conv_pw") if first else ("conv_pw", "conv_dw", "conv_pwl")
    number = _CONVS.index(found[3]) - first
    part = names[number] if found[4] == "conv" else f"bn{number + 1}"
    return f"blocks.{stage}.{place}.{part}"


def _v2_torchvision(found: re.Match[str]) -> str:
    place = _V2_BEFORE[int(found[1])] + int(found[2])
    number = _CONVS.index(found[3]) - (place == 1)
    last = found[3] == "red_1x1"  # two entries of the list, the others are units of two
    inner = "" if last else f".{int(found[4] == 'norm')}"
    return f"features.{place}.conv.{number + (last and found[4] == 'norm')}{inner}"


_V2_TO_TIMM: tuple[Rule, ...] = (
    (r"^conv_1\.block\.conv", "conv_stem"),
    (r"^conv_1\.block\.norm", "bn1"),
    (r"^conv_1x1_exp\.block\.conv", "conv_head"),
    (r"^conv_1x1_exp\.block\.norm", "bn2"),
    (r"^classifier\.classifier_fc", "classifier"),
    (_V2_UNIT, _v2_timm),
)
_V2_TO_TORCHVISION: tuple[Rule, ...] = (
    (r"^conv_1\.block\.", "features.0."),
    (r"^conv_1x1_exp\.block\.", "features.18."),
    (r"^(features\.\d+)\.conv\.", r"\1.0."),
    (r"^(features\.\d+)\.norm\.", r"\1.1."),
    (r"^classifier\.classifier_fc", "classifier.1"),
    (_V2_UNIT, _v2_torchvision),
)

_WRAPPED: tuple[Rule, ...] = ((r"^network\.", ""),)  # networks of a library, as they are

# Family -> dialects besides our own.
DIALECTS: Mapping[str, tuple[Dialect, ...]] = {
    "mobilevit": (Dialect("timm", _TIMM_BYOB), Dialect("hf", _transformers("mobilevit"))),
    "mobilevit_v2": (Dialect("timm", _TIMM_BYOB), Dialect("hf", _transformers("mobilevitv2"))),
    "mobilenetv2": (Dialect("timm", _V2_TO_TIMM), Dialect("torchvision", _V2_TO_TORCHVISION)),
    "timm": (Dialect("timm", _WRAPPED),),
    "torchvision": (Dialect("torchvision", _WRAPPED),),
}


# Heads of segmentation in the first release of ml-cvnets, and in MobileViTv3 built on it.
OLD = "cvnets-v0.1"
_OLD_HEADS: tuple[Rule, ...] = (
    (r"^seg_head\.classifier\.", "seg_head.classifier.classifier."),
    (r"^seg_head\.aux_head\.0\.", "seg_head.aux_head.aux_projection."),
    (r"^seg_head\.aux_head\.2\.", "seg_head.aux_head.aux_classifier."),
)


def dialects_of(family: str) -> tuple[Dialect, ...]:
    """All dialects of a family, our own first."""
    return (Dialect(OFFICIAL), Dialect(OLD, _OLD_HEADS), *DIALECTS.get(family, ()))


def detect(family: str, own: Collection[str], theirs: Collection[str]) -> Dialect:
    """The dialect in which most of our entries are found; our own if none are."""
    count = partial(Dialect.hits, own=own, theirs=theirs)
    return max(dialects_of(family), key=count)
