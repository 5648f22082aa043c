"""The official releases: which one a recipe was written for, and its defaults where they differ.

A key or value that only some releases have is a marker. What all markers of a recipe leave is its
release: main if that is left, else the oldest, because the recipes of a newer one have a marker of
it (0.3 began to give a `taskname`). docs/compatibility.md lists what differs, and what of it is reproduced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config.errors import Problem
from config.source import COMMAND_LINE, Scalar, Value, flatten, put, text_of

KEY, AUTO = "common.release", "auto"
MAIN, V03, V02, V01 = "main", "v0.3", "v0.2", "v0.1"
MOBILEVITV3_V1, MOBILEVITV3_V2 = "mobilevitv3-v1", "mobilevitv3-v2"
RELEASES = (MAIN, V01, V02, V03, MOBILEVITV3_V1, MOBILEVITV3_V2)  # the first that is left counts

_FIRST = frozenset({V01, MOBILEVITV3_V1})  # MobileViTv3 extends 0.1 in one folder
_SECOND = frozenset({V02, MOBILEVITV3_V2})  # and 0.2 in the other
_LATER = frozenset({MAIN, V03}) | _SECOND

RELEASE_DEFAULT = "default of release"  # how the origin of a value begins that nobody gave

# A key, or `key=value`, and the releases that know it.
MARKERS: dict[str, frozenset[str]] = {
    "ddp.enable": _FIRST,
    "stats.name": _FIRST,
    "loss.classification.label_smoothing_factor": _FIRST,
    "loss.classification.name=label_smoothing": _FIRST,
    "model.normalization.name=sbn": _FIRST,
    "model.detection.ssd.anchors_aspect_ratio": _FIRST,
    "model.detection.ssd.output_strides": _FIRST,
    "model.detection.ssd.center_variance": _FIRST,
    "model.detection.ssd.size_variance": _FIRST,
    "model.detection.ssd.iou_threshold": _FIRST,
    "sampler.vbs.scale_inc_factor": _FIRST,
    "ddp.disable": _SECOND,
    "common.bolt_logging": _SECOND,
    "sampler.bs.num_repeats": _SECOND,
    "sampler.vbs.num_repeats": _SECOND,
    "stats.save_all_checkpoints": _SECOND,
    "dataset.name=imagenet_opencv": _SECOND,
    "loss.classification.label_smoothing": _SECOND | {V03},
    "common.finetune_imagenet1k": _SECOND | {V03},
    "common.finetune_imagenet1k_ema": _SECOND | {V03},
    "sampler.msc.scale_inc_factor": _SECOND | {V03},
    "stats.checkpoint_metric=coco_map": _SECOND | {V03},
    "loss.distillation.name=cls_kl_div_loss": frozenset({V03}),
    "loss.distillation.cls_kl_div_loss.mode": frozenset({V03}),
    "loss.distillation.label_smoothing": frozenset({V03}),
    "model.classification.vit.learnable_pos_emb": frozenset({V03}),
    "loss.ignore_idx": _FIRST | _SECOND | {V03},
    "taskname": frozenset({MAIN, V03}),
    "common.save_all_checkpoints": frozenset({MAIN, V03}),
    "stats.train": _LATER,
    "stats.val": _LATER,
    "matcher.name": _LATER,
    "anchor_generator.name": _LATER,
    "loss.classification.cross_entropy.label_smoothing": frozenset({MAIN}),
    "loss.segmentation.cross_entropy.ignore_index": frozenset({MAIN}),
    "loss.distillation.soft_kl_loss.temperature": frozenset({MAIN}),
}

# Keys that are keys of today as well: they tell between older releases, and only that.
REFINING: dict[str, frozenset[str]] = {
    **{
        f"model.classification.mit.mode={size}_v3{fast}": frozenset({MOBILEVITV3_V1})
        for size in ("xx_small", "x_small", "small")
        for fast in ("", "_fast")
    },
    "model.classification.mitv3.width_multiplier": frozenset({MOBILEVITV3_V2}),
    "model.classification.mitv3.attn_norm_layer": frozenset({MOBILEVITV3_V2}),
}


@dataclass(frozen=True)
class _Default:
    """What `key` is where a recipe of one of `releases` has a `key=value` that begins with `beside`."""

    key: str
    value: str
    beside: str
    releases: frozenset[str]


DEFAULTS = (
    _Default("model.classification.mit.attn_dropout", "0.1", "model.classification.mit.", _FIRST),
    _Default("model.classification.mit.dropout", "0.1", "model.classification.mit.", _FIRST),
    _Default("model.detection.ssd.conf_threshold", "0.05", "model.detection.name=ssd", _FIRST),
    _Default("model.detection.ssd.nms_iou_threshold", "0.3", "model.detection.name=ssd", _FIRST),
    _Default("sampler.vbs.at_least_base_batch", "true", "sampler.vbs.", _FIRST),
    _Default("sampler.vbs.max_scale_inc_factor", "1.25", "sampler.vbs.scale_inc=true", _FIRST),
    *(
        _Default(f"image_augmentation.{name}.{key}", value, f"image_augmentation.{name}.", _SECOND)
        for name in ("mixup", "cutmix")
        for key, value in (("alpha", "1.0"), ("p", "0.5"))
    ),
)


def apply_release(tree: Value, problems: list[Problem]) -> list[str]:
    """Put the release of the recipe and its defaults into the tree, as it was written.

    (Before `translate`.) One line says which release it is and why, unless it is the latest one.
    Markers that exclude each other are a problem.
    """
    flat = flatten(tree)
    given = flat.get(KEY)
    asked = text_of(given) if given is not None else AUTO
    release, words, place = (asked, asked, "") if asked != AUTO else _detect(flat, problems)
    if release == MAIN:
        return []
    if place:  # what is written out later with all its keys says the release itself
        put(tree.data, KEY, Value(Scalar(release), place), "", None)
    pairs = [f"{key}={text_of(value)}" for key, value in flat.items()]
    added = 0
    for row in DEFAULTS:
        beside = any(pair.startswith(row.beside) for pair in pairs)
        if release in row.releases and beside and row.key not in flat:
            default = Value(Scalar(row.value), f"{RELEASE_DEFAULT} {release}")
            put(tree.data, row.key, default, "", None)
            added += 1
    defaults = f"; {added} of its defaults differ from those of the latest" if added else ""
    return [f"{KEY}: {words}{defaults}"]


def _detect(flat: dict[str, Value], problems: list[Problem]) -> tuple[str, str, str]:
    """The release that the markers leave; all that they leave and what decided it, in words; where."""
    left, decided, place = frozenset(RELEASES), MAIN, ""
    seen: list[tuple[str, Value, frozenset[str]]] = []
    for marker, value, knows in _found(flat, MARKERS):
        if not left & knows:
            problems.append(_contradiction(marker, value, knows, seen))
            return MAIN, MAIN, ""
        if not left <= knows:
            left &= knows
            decided, place = f"{_listed(left)} ({value.place}: {marker})", value.place
            seen.append((marker, value, knows))
    for marker, value, knows in _found(flat, REFINING):
        if MAIN not in left and left & knows:
            left &= knows
            decided, place = f"{_listed(left)} ({value.place}: {marker})", value.place
    return next(name for name in RELEASES if name in left), decided, place


def _found(
    flat: dict[str, Value], markers: dict[str, frozenset[str]]
) -> Iterator[tuple[str, Value, frozenset[str]]]:
    """The markers that a recipe has, in its order: each with its value and the releases that know it.

    What is given on the command line is not what the recipe was written with.
    """
    written = ((key, value) for key, value in flat.items() if value.place != COMMAND_LINE)
    for key, value in written:
        for marker in (key, f"{key}={text_of(value)}"):
            if marker in markers:
                yield marker, value, markers[marker]


def _contradiction(
    marker: str,
    value: Value,
    knows: frozenset[str],
    seen: list[tuple[str, Value, frozenset[str]]],
) -> Problem:
    """Two keys that no release knows both, or else the last of several that rule each other out."""
    apart = [entry for entry in seen if not entry[2] & knows] or seen[-1:]
    other, there, theirs = apart[0]
    text = (
        f"only {_listed(knows)} knows it, but {other} ({there.place}) is of {_listed(theirs)}; "
        f"take one out, or say which release counts with {KEY}"
    )
    return Problem(value.place, marker.partition("=")[0], text)


def _listed(releases: frozenset[str]) -> str:
    return " or ".join(name for name in RELEASES if name in releases)
