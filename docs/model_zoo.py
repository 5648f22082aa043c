"""Writes docs/model_zoo.md: what the networks count, beside what papers and official code state.

python docs/model_zoo.py [FILE]
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cvnets import create_model
from cvnets.profile import Profile, profile_built
from engine import build_model, load_recipe
from engine.parts import build_sampler
from engine.verification import Row, read_record

HERE = Path(__file__).resolve().parent
REFERENCE = HERE.parent / "tests/reference/classification"
SIDE = 256
TEXTS = {
    "model",
    "recipe",
    "its profiler",
    "peer",
    "weights",
    "metric",
    "reached",
    "device",
}  # columns aligned to the left
INTRODUCTION = """# Model zoo

Made by `python docs/model_zoo.py` of the networks themselves, of `docs/model_figures.yaml` (what
others state) and of `tests/reference/classification`. `cvnets profile NAME` shows a network stage
by stage, with any options and at any image size; `cvnets list models` lists the names.

- **Parameters** are for 1000 classes unless said otherwise. *Official*: of the network that the
  official release builds. *Paper*: as printed there.
- **MACs** are multiply-accumulates of all convolutions and matrix products for one image, both
  products of an attention included: half of what `torch.utils.flop_counter` reports. They grow with
  the image, so the size stands beside every figure. Some papers call them FLOPs.
- **Activations** are the elements of the outputs of the same convolutions and matrix products
  (Radosavovic et al., "Designing Network Design Spaces", 2020).
"""
PROFILERS = """## Official profilers

What the official code prints of itself, beside our count of the same network. Half of what
`torch.utils.flop_counter` reports for the official network equals our MACs exactly.

- *fvcore* counts in addition two per element that goes into a batch norm, five per element of a
  layer or group norm, and one per element that a squeeze-and-excitation averages. Our MACs plus
  these give its figure exactly.
- The *hand-written* profilers of older releases approximate attention. Their figures are those of
  the MobileViTv3 paper.
"""
EVIDENCE = """## How each network is checked

- *Recorded outputs*: names, shapes and order of the weights are the official ones, and with the
  same weights in float64 every map and the logits are the recorded ones. The number is the largest
  relative error over all recorded image sizes, measured on one machine; 0 means equal to the last
  bit.
- *Parameters*: as many as the official network has, to the digits that are known.
- *Peer*: another library computes the same logits with the weights of our network; in brackets the
  options that make ours the network of the paper, or what is compared.
"""
REMEASURED = """## Re-measured

What `cvnets verify all --data ROOT --out docs/verified.jsonl` found: published weights, evaluated
here as the recipe says, beside the published figure (see [recipes.md](recipes.md)).
"""
NOT_YET = "Nobody has run it with the real data and weights yet, so there is nothing to show.\n"


def text() -> str:
    """The document."""
    stated = yaml.safe_load((HERE / "model_figures.yaml").read_text())
    families = [family for family in stated if "models" in family]
    dense = [family for family in stated if "recipes" in family]
    parts = [INTRODUCTION, *map(_family, families), *map(_recipes, dense)]
    parts += [PROFILERS + "\n" + _profilers(families), EVIDENCE + "\n" + _evidence(families)]
    parts.append(REMEASURED + "\n" + _remeasured(read_record(HERE / "verified.jsonl")))
    return "\n".join(parts)


@cache
def card(name: str, side: int) -> Profile:
    """The profile of a variant for one square image."""
    return profile_built(lambda: create_model(name), (side, side))


@cache
def recipe_card(name: str) -> Profile:
    """The profile of a recipe's network for one image of the sampler's base size."""
    recipe = load_recipe(name, ["model.classification.pretrained=null"])
    base = build_sampler(recipe, recipe.dataset.train_batch_size0).base
    return profile_built(lambda: build_model(recipe), (base.height, base.width))


def _family(family: dict[str, Any]) -> str:
    heads = ["model", "parameters", "official", "paper", f"MACs at {SIDE}x{SIDE}"]
    heads += [f"activations at {SIDE}x{SIDE}", "MACs at the paper's size", "paper's MACs"]
    rows = []
    for name, stated in family["models"].items():
        own, side = card(name, SIDE), stated["size"]
        at_papers_size = _millions(card(name, side).multiply_accumulates)
        paper_macs = f"{stated['paper_macs']} at {side}x{side}" if "paper_macs" in stated else None
        rows.append(
            [
                f"`{name}`",
                f"{own.parameters:,}",
                _count(stated.get("official")),
                stated.get("paper"),
                _millions(own.multiply_accumulates),
                _millions(own.activations),
                f"{at_papers_size} at {side}x{side}",
                paper_macs,
            ]
        )
    if all(stated["size"] == SIDE for stated in family["models"].values()):
        for line in (heads, *rows):
            del line[-2]
    return f"{_heading(family)}\n\n{_table(heads, rows)}"


def _recipes(family: dict[str, Any]) -> str:
    heads = ("recipe", "image", "parameters", "official", "MACs", "activations")
    rows = []
    for name, stated in family["recipes"].items():
        own = recipe_card(name)
        counts = (own.multiply_accumulates, own.activations)
        row = (f"`{name}`", "x".join(map(str, own.size)), f"{own.parameters:,}")
        rows.append((*row, _count(stated["official"]), *map(_millions, counts)))
    return f"{_heading(family)}\n\n{_table(heads, rows)}"


def _heading(family: dict[str, Any]) -> str:
    prose = textwrap.fill(f"{family['paper']}. {family.get('note', '')}", 100)
    return f"## {family['family']}\n\n{prose}"


def _profilers(families: list[dict[str, Any]]) -> str:
    heads = ("model", "image", "our MACs", "printed by the official code", "its profiler")
    rows = []
    for name in _names(families):
        macs = _reference(name).get("macs", {})
        for suffix in ("", "_224"):
            if f"official_profiler{suffix}" in macs:
                side = 224 if suffix else macs["input_shape"][2]
                printed = f"{int(macs[f'official_profiler{suffix}']):,}"
                ours = f"{card(name, side).multiply_accumulates:,}"
                kind = macs["official_profiler_kind"].split(" ")[0]
                rows.append((f"`{name}`", f"{side}x{side}", ours, printed, kind))
    return _table(heads, rows)


def _evidence(families: list[dict[str, Any]]) -> str:
    heads = ("model", "recorded outputs: largest relative error", "parameters", "peer")
    rows = []
    for name, stated in _names(families).items():
        error = stated.get("fixture")
        shown = None if error is None else f"{error:.1e}" if error else "0"
        rows.append((f"`{name}`", shown, _count(stated.get("official")), stated.get("peer")))
    return _table(heads, rows)


def _remeasured(rows: list[Row]) -> str:
    """Rows of `cvnets verify`, by recipe."""
    if not rows:
        return NOT_YET
    heads = ("recipe", "weights", "metric", "published", "measured", "reached", "device")
    reached = {True: "yes", False: "no", None: "other images"}
    shown = (
        (
            *(f"`{row['recipe']}`", f"`{row['weights']}`", row["metric"]),
            *(f"{row['expected']:g} +- {row['tolerance']:g}", f"{row['measured']:.2f}"),
            *(reached[row["reached"]], row["device"]),
        )
        for row in sorted(rows, key=lambda row: (row["recipe"], row["weights"]))
    )
    return _table(heads, shown)


def _names(families: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: stated for family in families for name, stated in family["models"].items()}


def _reference(name: str) -> dict[str, Any]:
    """The recorded figures of the official network, or nothing."""
    path = REFERENCE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _count(number: int | str | None) -> str | None:
    return f"{number:,}" if isinstance(number, int) else number


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f} M"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    rule = ["---" if head in TEXTS else "---:" for head in heads]
    return "".join(
        f"| {' | '.join(cell or '-' for cell in line)} |\n" for line in (heads, rule, *rows)
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "model_zoo.md"
    target.write_text(text())
