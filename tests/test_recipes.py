"""Shipped recipes: resolved text, parameters, and equality with the official files."""

import json
import os
from pathlib import Path

import pytest

from engine import build_model, load_recipe
from engine.reading import shipped_recipes
from engine.recipe import RECIPES
from engine.resolved import flat

HERE = Path(__file__).parent
NAMES = [str(path.relative_to(RECIPES)) for path in shipped_recipes()]


def test_there_are_recipes():
    assert "demo/classification.yaml" in NAMES
    assert (
        len([name for name in NAMES if name.startswith("classification/imagenet/mobilevit")]) == 3
    )


@pytest.mark.parametrize("name", NAMES)
def test_resolved_text_is_the_stored_one(name):
    """A changed default shows in review: UPDATE_GOLDEN=1 writes the files anew."""
    recipe = load_recipe(RECIPES / name)
    classes = recipe.model.classification.n_classes or 1000
    model = build_model(load_recipe(RECIPES / name, [f"model.classification.n_classes={classes}"]))
    lines = [f"{key}: {json.dumps(value)}" for key, value in flat(recipe).items()]
    lines.append(
        f"# parameters with {classes} classes: {sum(p.numel() for p in model.parameters())}"
    )
    text = "\n".join(lines) + "\n"
    golden = HERE / "golden" / (name.removesuffix(".yaml").replace("/", "_") + ".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize(
    ("name", "mode", "dropout"),
    [
        ("mobilevit.yaml", "small", 0.1),
        ("mobilevit_x_small.yaml", "x_small", 0.1),
        ("mobilevit_xx_small.yaml", "xx_small", 0.05),
    ],
)
def test_imagenet_recipe_has_every_value_of_the_official_one(name, mode, dropout):
    """Except for labels and paths, which are the user's."""
    official = json.loads((HERE / "reference" / "recipe_mobilevit_imagenet.json").read_text())
    official |= {"model.classification.mit.mode": mode, "model.classification.mit.dropout": dropout}
    ours = flat(load_recipe(RECIPES / "classification/imagenet" / name))
    for key, value in official.items():
        if key in ("taskname", "common.run_label", "dataset.root_train", "dataset.root_val"):
            continue
        assert ours[key] == (tuple(value) if isinstance(value, list) else value), key


def test_official_file_is_read_as_it_is():
    """The official recipe as a mapping, with nothing but the class count given."""
    official = json.loads((HERE / "reference" / "recipe_mobilevit_imagenet.json").read_text())
    recipe = load_recipe(official)
    assert recipe.model.classification.mit.number_heads == 4
    assert recipe.notes == ()
