"""Parts of a network that training leaves as they are."""

from __future__ import annotations

import logging
import re
from types import MethodType

from torch import nn

from config.errors import UserError, suggestion
from cvnets.weights.scopes import patterns

log = logging.getLogger(__name__)
KEY = "model.freeze_modules"


def freeze_modules(model: nn.Module, given: str) -> tuple[str, ...]:
    """Freeze what `given` (regular expressions, by commas) names; the dotted names, outermost only.

    Matched from the start of the names of all modules and parameters: `layer_1` means all below
    `layer_1` (and `layer_10`), `.*norm` the norms at any depth. A frozen module needs no gradient
    and stays in evaluation mode, whatever `train()` says of what is around it: no dropout, no new
    running statistics. UserError for a pattern that fits nothing.
    """
    parts: dict[str, nn.Module | nn.Parameter] = {n: m for n, m in model.named_modules() if n}
    parts |= dict(model.named_parameters())
    frozen: set[str] = set()
    for pattern in patterns(given, KEY):
        found = {name for name in parts if pattern.match(name)}
        if not found:
            text = suggestion(pattern.pattern, [name for name, _ in model.named_children()])
            raise UserError(f"{KEY}: {pattern.pattern!r} fits no module and no parameter; {text}")
        frozen |= found
    outermost = tuple(name for name in parts if name in frozen and not _within(name, frozen))
    for name in outermost:
        part = parts[name]
        part.requires_grad_(False)
        if isinstance(part, nn.Module):
            part.eval()
            part.train = MethodType(_stay, part)  # type: ignore[method-assign]
    if outermost:
        rest = sum(p.numel() for p in model.parameters() if p.requires_grad)
        log.info("frozen: %s; %s parameters are trained", ", ".join(outermost), f"{rest:,}")
    return outermost


def _within(name: str, others: set[str]) -> bool:
    """Whether a part that `name` lies in is among `others`."""
    places = [match.start() for match in re.finditer(r"\.", name)]
    return any(name[:place] in others for place in places)


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """What `train()` of a frozen module does: nothing."""
    return module
