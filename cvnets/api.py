"""Networks by name, for Python users."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, ValidationError

from config.errors import UserError, suggestion
from config.options import Options
from config.registry import ANY, Entry
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.style import LayerStyle
from cvnets.models.classification import VARIANT_NAMES
from cvnets.models.encoder import ImageEncoder


class _Common(Options):
    n_classes: int
    classifier_dropout: float | None = Field(ge=0, lt=1)
    output_stride: int | None


def list_models(pattern: str = "*") -> list[str]:
    """Names for `create_model` that match a shell pattern, sorted.

    Variants (`mobilevit_xx_small`), and registered models that have no named variant.
    """
    with_variants = {registered for registered, _ in VARIANT_NAMES.values()}
    plain = {name for name in CLASSIFIERS.names() if not name.endswith(ANY)}
    names = {*VARIANT_NAMES, *(plain - with_variants)}
    return sorted(name for name in names if fnmatchcase(name, pattern))


def create_model(
    name: str,
    *,
    n_classes: int = 1000,
    classifier_dropout: float | None = None,
    output_stride: int | None = None,
    style: LayerStyle | None = None,
    **options: Any,
) -> ImageEncoder:
    """A classifier with fresh weights: images [B, 3, H, W] in [0, 1] -> logits [B, n_classes].

    `name`: a variant like `mobilevit_xx_small`, or a registered name with its options (those of
    its recipe section, e.g. `create_model("mobilevit", mode="small", head_dim=24)`). `style`
    defaults to the family's own. UserError for unknown names and options.
    """
    if name not in VARIANT_NAMES and name not in CLASSIFIERS:
        known = {*list_models(), *CLASSIFIERS.names()}
        raise UserError(f"no model is called {name!r} - {suggestion(name, known)}")
    common = {
        "n_classes": n_classes,
        "classifier_dropout": classifier_dropout,
        "output_stride": output_stride,
    }
    _validated(name, _Common, common)
    if n_classes < 1:
        raise UserError(f"{name}: n_classes is {n_classes}; at least one class is needed")
    registered, given = VARIANT_NAMES.get(name, (name, {}))
    if fixed := given.keys() & options.keys():
        raise UserError(f"{name} fixes {', '.join(sorted(fixed))}: build {registered} to choose it")
    entry = CLASSIFIERS[registered]
    chosen = _options(name, entry, {**given, **options})
    default_style = getattr(entry.registered, "family_style", LayerStyle())
    return entry.component(
        chosen,
        style=style or default_style,
        num_classes=n_classes,
        classifier_dropout=classifier_dropout,
        output_stride=output_stride,
    )


def _options(name: str, entry: Entry, given: Mapping[str, Any]) -> Options:
    """The options of `entry` filled with `given`; UserError that names every mistake in one line.

    Of several option classes the one is meant that alone knows all keys given.
    """
    kinds = list(entry.sections.values()) or [entry.options]
    fields = {field for kind in kinds for field in kind.fields()}
    for key in given:
        if key not in fields:
            raise UserError(f"{name} has no option {key!r} - {suggestion(key, fields)}")
    fitting = [kind for kind in kinds if given.keys() <= kind.fields().keys()]
    if len(fitting) != 1:
        own = [
            sorted(kind.fields().keys() - set.intersection(*(set(k.fields()) for k in kinds)))
            for kind in kinds
        ]
        groups = " or ".join(f"({', '.join(keys)})" for keys in own)
        raise UserError(f"{name} is chosen by its options: give those of one group, {groups}")
    return _validated(name, fitting[0], given)


def _validated(name: str, kind: type[Options], given: Mapping[str, Any]) -> Options:
    try:
        return kind(**given)
    except ValidationError as error:
        texts = (_one_line(problem) for problem in error.errors())
        raise UserError(f"{name}: {'; '.join(texts)}") from None


def _one_line(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {text}, not {problem['input']!r}" if place else text
