"""Division of a model's parameters into groups of one weight decay and one rate multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from config.errors import UserError, suggestion


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    no_decay_bn_filter_bias: bool,
    lr_multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The groups of all parameters that require a gradient, for an optimizer.

    Per multiplier, in the order of the model: first the group that is decayed, then (if
    `no_decay_bn_filter_bias`) that of the parameters with at most one dimension, with decay 0.
    Only the number of dimensions decides. Empty groups are left out.

    `lr_multipliers` maps a module's or parameter's dotted name (`encoder` means all below it)
    or a pattern (`*.norm.*`) to a factor of the rate; the first that fits holds, others get 1.
    """
    table = dict(lr_multipliers or {})
    _check_multipliers(model, table)
    pairs: dict[float, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        multiplier = next((float(table[key]) for key in table if _fits(key, name)), 1.0)
        if multiplier not in pairs:
            pairs[multiplier] = (_group(weight_decay, multiplier), _group(0.0, multiplier))
        decayed, undecayed = pairs[multiplier]
        group = undecayed if no_decay_bn_filter_bias and parameter.ndim <= 1 else decayed
        group["params"].append(parameter)
        group["names"].append(name)
    if not pairs:
        raise UserError(
            "optim: the model has no parameter that requires a gradient; unfreeze a part of it"
        )
    return [group for pair in pairs.values() for group in pair if group["params"]]


def _group(weight_decay: float, lr_multiplier: float) -> dict[str, Any]:
    """An empty group."""
    return {
        "params": [],
        "weight_decay": weight_decay,
        "lr_multiplier": lr_multiplier,
        "names": [],
    }


def _fits(key: str, name: str) -> bool:
    """Whether the parameter `name` is `key`, lies below it, or fits it as a pattern."""
    return name == key or name.startswith(f"{key}.") or fnmatchcase(name, key)


def _check_multipliers(model: nn.Module, table: Mapping[str, float]) -> None:
    """Refuse keys that fit no parameter, and factors that are no rate."""
    names = [name for name, _ in model.named_parameters()]
    for key, multiplier in table.items():
        if not any(_fits(key, name) for name in names):
            parts = {name.split(".", 1)[0] for name in names}
            raise UserError(
                f"learning-rate multiplier {key!r}: fits no parameter; {suggestion(key, parts)}"
            )
        if not 0.0 <= multiplier < float("inf"):
            raise UserError(
                f"learning-rate multiplier {key!r}: {multiplier} is not possible; "
                "give a finite number of at least 0"
            )
