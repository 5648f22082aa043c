"""One table: the old spelling of a key, and what it is read as today.

Each use is printed. A text in place of new keys says why the old one is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from config.scalars import read_scalar
from config.source import Scalar, Value, flatten, put, text_of

_NO_EFFECT = "it has no effect in any release"
_TORCHRUN = "torchrun starts the processes and sets it"
_RANGE_AUGMENT = "RangeAugment is not built"
_EASY_SAMPLES = "sample-efficient training is not built, every epoch sees every sample"
_CONVERSION = "converting and timing networks are commands of their own here, with their own words"
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
    "stats.save_all_checkpoints": ("common.save_all_checkpoints",),
    "common.finetune_imagenet1k_ema": ("common.finetune_ema",),
    "common.eval_stage_name": "it only named the stage in log lines",
    "common.inference_modality": "all data are images here",
    "common.debug_mode": "only models of text read it",
    "common.enable_coreml_compatible_module": "export rewrites what a format cannot hold",
    "ddp.device_id": _TORCHRUN,
    "ddp.find_unused_params": "no network here has parameters that a step does not use",
    "ddp.use_deprecated_data_parallel": "one process per device is faster and exact",
    "image_augmentation.to_tensor.dtype": "images stay uint8 until they are on the device",
    "loss.distillation.label_smoothing": ("loss.distillation.hard_distillation.label_smoothing",),
    "loss.neural_augmentation.*": _RANGE_AUGMENT,
    "model.learn_augmentation.*": _RANGE_AUGMENT,
    "model.layer.group_linear_init": "no network here has grouped linear layers",
    "model.layer.group_linear_init_std_dev": "no network here has grouped linear layers",
    "optim.eps": "in no release; optim.adam.eps and optim.adamw.eps have one",
    "optim.bypass_parameters_check": "all trainable parameters are always in a group",
    "scheduler.lr": "in no release; every schedule has its own rate",
    "stats.metrics.prob_hist.num_bins": ("stats.prob_hist.num_bins",),
    "conversion.*": _CONVERSION,
    "benchmark.*": _CONVERSION,
    "sampler.msc.scale_inc_factor": "multi_scale_sampler never grows its sizes, in any release",
    "dataset.sample_efficient_training.*": _EASY_SAMPLES,
    "sampler.bs.num_repeats": ("sampler.num_repeats",),
    "sampler.vbs.num_repeats": ("sampler.num_repeats",),
}


def _opposite(text: str) -> str | None:
    switch = read_scalar(Scalar(text), bool)
    return None if switch is None else str(not switch).lower()


def _one_more(text: str) -> str | None:
    number = read_scalar(Scalar(text), float)
    return None if number is None else f"{1 + number:g}"


def _distillation(text: str) -> str | None:
    return {"soft": "soft_kl_loss", "hard": "hard_distillation"}.get(text)


# Old key -> the key of today, the value there as text (None: it has none), and that in words.
CONVERTED: dict[str, tuple[str, Callable[[str], str | None], str]] = {
    "model.classification.vit.learnable_pos_emb": (
        "model.classification.vit.sinusoidal_pos_emb",
        _opposite,
        "the opposite of",
    ),
    "sampler.vbs.scale_inc_factor": ("sampler.vbs.max_scale_inc_factor", _one_more, "1 more in"),
    "loss.distillation.cls_kl_div_loss.mode": (
        "loss.distillation.name",
        _distillation,
        "the loss of that kind in",
    ),
}

OLD_VALUES: dict[tuple[str, str], str] = {
    ("loss.classification.name", "label_smoothing"): "cross_entropy",
    ("stats.checkpoint_metric", "coco_map"): "coco_map.bbox",
    # images are RGB here, and weights that want BGR are turned when they are loaded
    ("dataset.name", "imagenet_opencv"): "imagenet",
    ("loss.distillation.name", "cls_kl_div_loss"): "soft_kl_loss",
    ("model.normalization.name", "sbn"): "sync_batch_norm",
}
TEACHER = "teacher."  # has the same keys below `model`, old ones as well


def old_key(key: str) -> tuple[str, ...] | str | None:
    """What `OLD_KEYS` says of a dotted key, for a key of a teacher too; None if it is not there."""
    prefix = TEACHER if key.startswith(f"{TEACHER}model.") else ""
    own = key.removeprefix(prefix)
    patterns = [f"{own.rsplit('.', depth)[0]}.*" for depth in range(1, own.count(".") + 1)]
    today = next((OLD_KEYS[name] for name in (own, *patterns) if name in OLD_KEYS), None)
    return tuple(prefix + name for name in today) if isinstance(today, tuple) else today


def translate(tree: Value) -> list[str]:
    """Put today's spellings into the tree; one line per translation. New keys win over old."""
    notes: list[str] = []
    flat = flatten(tree)
    taken = {key: key for key in flat}  # key of today -> the key that it is read from
    for key, value in flat.items():
        if new := OLD_VALUES.get((key.removeprefix(TEACHER), text_of(value))):
            put(tree.data, key, Value(Scalar(new, plain=False), value.place), "", None)
            notes.append(f"{value.place}: old value {key}={text_of(value)} read as {new}")
            del taken[key]
    unused = _of_other_samplers(flat)
    for key, value in sorted(flat.items(), key=lambda item: item[0] in unused):
        if key.removeprefix(TEACHER) in CONVERTED:
            notes += _convert(key, value, tree.data, taken)
        elif old_key(key) is not None:
            _remove(tree.data, key.split("."))
            notes.append(f"{value.place}: old key {key}: {_read_old(key, value, tree.data, taken)}")
    return notes


def _of_other_samplers(flat: Mapping[str, Value]) -> set[str]:
    """Repeats of samplers that the recipe does not use: they count after those of its own."""
    name = text_of(flat["sampler.name"]) if "sampler.name" in flat else "batch_sampler"
    used = {"batch_sampler": "bs", "variable_batch_sampler": "vbs"}.get(name)
    return {f"sampler.{key}.num_repeats" for key in ("bs", "vbs") if key != used}


def _convert(
    key: str, value: Value, tree: dict[str, Value], taken: dict[str, str]
) -> Iterator[str]:
    own = key.removeprefix(TEACHER)
    new_key, converted, words = CONVERTED[own]
    new_key = key.removesuffix(own) + new_key
    text = converted(text_of(value))
    if text is None:  # the reader says that there is no such key
        return
    _remove(tree, key.split("."))
    if new_key in taken:
        yield f"{value.place}: old key {key}: ignored, {taken[new_key]} is given"
        return
    put(tree, new_key, Value(Scalar(text), value.place), "", None)
    taken[new_key] = key
    yield f"{value.place}: old key {key}: read as {words} {new_key}"


def _remove(tree: dict[str, Value], path: list[str]) -> None:
    """Take a key out, and the sections that are empty then."""
    if len(path) > 1:
        _remove(tree[path[0]].data, path[1:])
    if len(path) == 1 or not tree[path[0]].data:
        del tree[path[0]]


def _read_old(key: str, value: Value, tree: dict[str, Value], taken: dict[str, str]) -> str:
    """Put the value where it belongs today, unless that is taken; what was done, in words."""
    new_keys = old_key(key)
    assert new_keys is not None
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
