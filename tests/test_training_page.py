"""docs/training.md: its recipes can be read, and its keys are options."""

import re
from pathlib import Path

import pytest

from engine import build_model, load_recipe
from engine.effects import without_effect
from engine.reading import task_name
from engine.recipe import recipe_type
from optim import OPTIMIZERS, SCHEDULES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/training.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition(":")[0])
def test_recipes_of_the_page_are_read_and_have_an_effect(block, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(block)
    recipe = load_recipe(path)
    assert task_name(recipe) == "classification"
    assert without_effect(recipe) == []
    build_model(load_recipe(path, ["model.classification.n_classes=3"]))


def test_keys_of_the_page_are_options():
    named = re.findall(r"`((?:common|ema|model|optim|scheduler|stats)\.[\w.]+)`", PAGE)
    assert len(named) > 15
    for key in named:
        kind = recipe_type()
        for part in key.split("."):
            assert part in kind.fields(), key
            kind = kind.fields()[part].annotation


def test_all_optimizers_and_schedules_are_on_the_page():
    entries = [kind[name] for kind in (OPTIMIZERS, SCHEDULES) for name in kind.names()]
    for name in [entry.name for entry in entries if entry.where.startswith(str(ROOT / "optim"))]:
        assert f"`{name}`" in PAGE
