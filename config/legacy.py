"""One table: the old spelling of a key, and what it is read as today.

Each use is printed. A text in place of new keys says why the old one is ignored.
"""

from __future__ import annotations

from config.source import Scalar, Value, flatten, put

_NO_EFFECT = "it has no effect in any release"
_TORCHRUN = "torchrun starts the processes and sets it"
_SMOOTHING = "loss.classification.cross_entropy.label_smoothing"

OLD_KEYS: dict[str, tuple[str, ...] | str] = {
    "ddp.enable": "several processes are used when torchrun starts them",
    "ddp.disable": "several processes are used when torchrun starts them",
    "ddp.rank": _TORCHRUN,
    "ddp.world_size": _TORCHRUN,
    "ddp.dist_url": _TORCHRUN,
    "ddp.dist_port": _TORCHRUN,
    "common.bolt_logging": _NO_EFFECT,
    "model.layer.conv_weight_std": _NO_EFFECT,
    "common.finetune_imagenet1k": ("common.finetune",),
    "stats.name": ("stats.train", "stats.val"),
    "loss.classification.label_smoothing_factor": (_SMOOTHING,),
    "loss.classification.label_smoothing": (_SMOOTHING,),
    "loss.ignore_idx": (
        "loss.classification.cross_entropy.ignore_index",
        "loss.segmentation.cross_entropy.ignore_index",
    ),
    "model.detection.replace_stride_with_dilation": _NO_EFFECT,
    "model.segmentation.replace_stride_with_dilation": _NO_EFFECT,
    "model.segmentation.norm_layer": _NO_EFFECT,
    "model.segmentation.classifier_dropout": "only release 0.1 has a dropout there",
    "evaluation.detection.save_overlay_boxes": _NO_EFFECT,
    "model.detection.ssd.anchors_aspect_ratio": ("anchor_generator.ssd.aspect_ratios",),
    "model.detection.ssd.output_strides": ("anchor_generator.ssd.output_strides",),
    "model.detection.ssd.min_box_size": ("anchor_generator.ssd.min_scale_ratio",),
    "model.detection.ssd.max_box_size": ("anchor_generator.ssd.max_scale_ratio",),
    "model.detection.ssd.center_variance": ("matcher.ssd.center_variance",),
    "model.detection.ssd.size_variance": ("matcher.ssd.size_variance",),
    "model.detection.ssd.iou_threshold": ("matcher.ssd.iou_threshold",),
    "sampler.bs.num_repeats": ("sampler.num_repeats",),
    "sampler.vbs.num_repeats": ("sampler.num_repeats",),
}

# A switch whose meaning was turned round.
OPPOSITES = {
    "model.classification.vit.learnable_pos_emb": "model.classification.vit.sinusoidal_pos_emb",
}

OLD_VALUES: dict[tuple[str, str], str] = {
    ("loss.classification.name", "label_smoothing"): "cross_entropy",
    ("stats.checkpoint_metric", "coco_map"): "coco_map.bbox",
    ("model.normalization.name", "sbn"): "sync_batch_norm",
}


def translate(tree: Value) -> list[str]:
    """Put today's spellings into the tree; one line per translation. New keys win over old."""
    notes: list[str] = []
    flat = flatten(tree)
    taken = {key: key for key in flat}  # key of today -> the key that it is read from
    for key, value in flat.items():
        text = value.data.text if isinstance(value.data, Scalar) else ""
        if key in OPPOSITES and text.lower() in ("true", "false"):
            new_key, opposite = (
                OPPOSITES[key],
                Scalar("false" if text.lower() == "true" else "true"),
            )
            _remove(tree.data, key.split("."))
            if new_key not in flat:
                put(tree.data, new_key, Value(opposite, value.place), "", None)
            notes.append(f"{value.place}: old key {key}: read as the opposite of {new_key}")
        elif key in OLD_KEYS:
            _remove(tree.data, key.split("."))
            notes.append(f"{value.place}: old key {key}: {_read_old(key, value, tree.data, taken)}")
        elif new := OLD_VALUES.get((key, text)):
            put(tree.data, key, Value(Scalar(new, plain=False), value.place), "", None)
            notes.append(f"{value.place}: old value {key}={text} read as {new}")
    return notes


def _remove(tree: dict[str, Value], path: list[str]) -> None:
    """Take a key out, and the sections that are empty then."""
    if len(path) > 1:
        _remove(tree[path[0]].data, path[1:])
    if len(path) == 1 or not tree[path[0]].data:
        del tree[path[0]]


def _read_old(key: str, value: Value, tree: dict[str, Value], taken: dict[str, str]) -> str:
    """Put the value where it belongs today, unless that is taken; what was done, in words."""
    new_keys = OLD_KEYS[key]
    if isinstance(new_keys, str):
        return f"ignored, {new_keys}"
    effects = []
    for new_key in new_keys:
        if new_key in taken:
            effects.append(f"ignored, {taken[new_key]} is given")
        else:
            effects.append(f"read as {new_key}")
            put(tree, new_key, value, "", None)
            taken[new_key] = key
    return " and ".join(effects)
