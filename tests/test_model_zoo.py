"""docs/model_zoo.md is what its script writes, and the stated figures fit the networks."""

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from cvnets.models.classification import VARIANT_NAMES

ROOT = Path(__file__).resolve().parent.parent
FIGURES = yaml.safe_load((ROOT / "docs/model_figures.yaml").read_text())
FAMILIES = [family for family in FIGURES if "models" in family]
RECIPES = {name: stated for family in FIGURES for name, stated in family.get("recipes", {}).items()}
STATED = {name: stated for family in FAMILIES for name, stated in family["models"].items()}
KEYS = {"size", "official", "paper", "paper_macs", "fixture", "peer"}
UNITS = {"M": 1e6, "G": 1e9}


def number(stated: str) -> float:
    """`5.38 M` -> 5380000."""
    digits, unit = stated.split(" ")
    return float(digits) * UNITS[unit]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `python docs/model_zoo.py FILE` writes, and the profiles of variants and of recipes."""
    file = tmp_path_factory.mktemp("docs") / "zoo.md"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["model_zoo.py", str(file)])
        names = runpy.run_path(str(ROOT / "docs/model_zoo.py"), run_name="__main__")
    return file.read_text(), names["card"], names["recipe_card"]


def test_the_page_is_what_its_script_writes(made):
    """After a wanted change: python docs/model_zoo.py"""
    assert made[0] == (ROOT / "docs/model_zoo.md").read_text()


def test_every_variant_has_an_entry_and_every_entry_a_variant():
    assert list(STATED) == [name for family in FAMILIES for name in family["models"]]
    assert set(STATED) == set(VARIANT_NAMES)
    assert {key for stated in STATED.values() for key in stated} <= KEYS


@pytest.mark.parametrize("name", [name for name, stated in STATED.items() if "official" in stated])
def test_parameters_are_the_official_ones_to_the_digits_stated(name, made):
    official, ours = STATED[name]["official"], made[1](name, 256).parameters
    assert official in (ours, f"{ours / 1e6:.2f} M")


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_of_recipes_are_the_official_ones(name, made):
    assert RECIPES[name] == {"official": made[2](name).parameters}


def test_every_recipe_of_segmentation_has_an_entry():
    folder = ROOT / "config"
    shipped = (folder / "segmentation").rglob("*.yaml")
    assert set(RECIPES) == {str(path.relative_to(folder).with_suffix("")) for path in shipped}


def test_figures_of_papers_are_near_ours(made):
    """A slip of the pen would be further off: roundings and known differences stay below 15 %."""
    off = []
    for name, stated in STATED.items():
        card = made[1](name, stated["size"])
        for key, ours in (("paper", card.parameters), ("paper_macs", card.multiply_accumulates)):
            if key in stated and abs(number(stated[key]) / ours - 1) > 0.15:
                off.append(f"{name} {key}: {stated[key]}, ours {ours}")
    assert off == []


def test_an_error_is_stated_for_every_recorded_network_and_no_other():
    recorded = {path.stem for path in (ROOT / "tests/reference/classification").glob("*.json")}
    assert {name for name, stated in STATED.items() if "fixture" in stated} == recorded & set(
        STATED
    )
