"""One table: the old spelling of a key, and what it is read as today.

Each use is printed. Rows whose new key is None never had an effect in any release.
"""

from __future__ import annotations

from config.source import Scalar, Value, flatten, put

OLD_KEYS: dict[str, tuple[str, ...] | None] = {
    "ddp.enable": None,
    "ddp.disable": None,
    "common.bolt_logging": None,
    "model.layer.conv_weight_std": None,
    "stats.name": ("stats.train", "stats.val"),
    "loss.classification.label_smoothing_factor": (
        "loss.classification.cross_entropy.label_smoothing",
    ),
    "loss.classification.label_smoothing": ("loss.classification.cross_entropy.label_smoothing",),
    "loss.ignore_idx": ("loss.classification.cross_entropy.ignore_index",),
    "sampler.bs.num_repeats": ("sampler.num_repeats",),
    "sampler.vbs.num_repeats": ("sampler.num_repeats",),
}

OLD_VALUES: dict[tuple[str, str], str] = {
    ("loss.classification.name", "label_smoothing"): "cross_entropy",
    ("model.normalization.name", "sbn"): "sync_batch_norm",
}


def translate(tree: Value) -> tuple[Value, list[str]]:
    """The tree with today's spellings, and one line per translation. New keys win over old."""
    notes: list[str] = []
    flat = flatten(tree)
    result: dict[str, Value] = {}
    for key, value in flat.items():
        if key in OLD_KEYS:
            continue
        text = value.data.text if isinstance(value.data, Scalar) else None
        if text is not None and (key, text) in OLD_VALUES:
            new = OLD_VALUES[key, text]
            notes.append(f"{value.place}: old value {key}={text} read as {new}")
            value = Value(Scalar(new, plain=False), value.place)
        put(result, key, value, "", None)
    for key, value in flat.items():
        for new_key in OLD_KEYS.get(key) or ():
            if new_key not in flat:
                put(result, new_key, value, "", None)
        if key in OLD_KEYS:
            read_as = " and ".join(OLD_KEYS[key] or ())
            effect = f"read as {read_as}" if read_as else "never had an effect and is ignored"
            notes.append(f"{value.place}: old key {key} {effect}")
    return Value(result, tree.place), notes
