"""A recipe for a folder of one's own images: what `cvnets train FOLDER` trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from config.errors import UserError, suggestion, under
from config.releases import RELEASE_DEFAULT
from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification import VARIANT_NAMES
from cvnets.weights.load import load_weights
from cvnets.weights.preprocessing import Preprocessing
from cvnets.weights.zoo import named_weights
from data.datasets.classification.image_folder import ImageFolderOptions
from data.datasets.section import ImageDataset
from data.images import ImageError
from data.kinds import CLASSIFICATION_DATASETS
from engine.checkpoint import write_text
from engine.classifier import build_classifier
from engine.own_images import layout_of
from engine.parts import build_task
from engine.reading import load_recipe, located
from engine.recipe import Recipe
from engine.resolved import flat
from engine.run_folder import make_folder, run_folder, state_to_resume
from engine.training_choices import image_keys, run_keys, training_keys

DATA = "image_folder"
MODEL = "mobilevit_xx_small"
RECIPE = "recipe.yaml"
PRETRAINED = "model.classification.pretrained"
LOOKED_AT = 256  # images of a split that are read before training


class FineTuning(NamedTuple):
    """A recipe, and what to tell of it: what was found, and what was chosen."""

    recipe: Recipe
    lines: tuple[str, ...]


class Data(NamedTuple):
    """What the data turned out to be; `side`: the median short side of the images, pixels."""

    classes: int
    train: int
    side: float
    line: str


def fine_tuning(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    from_scratch: bool = False,
) -> FineTuning:
    """The recipe for the images of a folder; `overrides` (`a.b=value` words) win over it.

    `model`: a name of `cvnets.list_models`, with the named weights of the same name if there are
    any. It depends on the folder, the arguments and, for the batch of a process, on WORLD_SIZE alone.
    UserError for a folder, images, weights or options that cannot be trained on.
    """
    place = f"cvnets train {folder}"
    mapping = run_keys(folder)
    asked = load_recipe(mapping, overrides, place=place)  # imports the plugins as well
    layout = layout_of(folder, _own(asked))
    network, weights = _network(model, asked, from_scratch)
    mapping |= {"dataset": layout.dataset, **network}
    recipe = load_recipe(mapping, overrides, place=place)
    with located(recipe):
        _check_results(recipe)
        data = _looked_at(recipe)
        about = _expected_images(recipe, data.classes, weights)
    mapping |= image_keys(about, data.side)
    mapping |= training_keys(asked, data.train, scratch=about is None)
    if data.classes > 5:
        mapping["stats.val"] = ["loss", "top1", "top5"]
    recipe = load_recipe(mapping, overrides, place=place)
    lines = (f"{folder}: {data.line}", *layout.lines, *_split_line(recipe), *_chosen(recipe, data))
    return FineTuning(recipe, lines)


def keep_recipe(made: FineTuning, *, write: bool) -> None:
    """Write the recipe to its run folder, as `recipe.yaml`; without `write`, only look.

    UserError, with nothing written, if another run is in the folder.
    """
    state_to_resume(made.recipe)
    if write:
        text = "".join(f"# {line}\n" for line in made.lines)
        tree = yaml.safe_dump(_given(made.recipe), sort_keys=False, allow_unicode=True)
        write_text(make_folder(made.recipe) / RECIPE, text + tree)


def _given(recipe: Recipe) -> dict[str, Any]:
    """What the recipe does not have by default, nested, as YAML types."""
    nested: dict[str, Any] = {}
    for key, value in flat(recipe).items():
        given = (origin for name, origin in recipe.origins.items() if name.partition("[")[0] == key)
        if any(not origin.startswith(RELEASE_DEFAULT) for origin in given):
            *sections, last = key.split(".")
            inner = nested
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[last] = _plain(value)
    return nested


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# --- the network ---------------------------------------------------------------------------------


def _network(name: str | None, asked: Recipe, from_scratch: bool) -> tuple[dict[str, Any], bool]:
    """The keys of the network, and whether they name weights of the table."""
    by_key = "model.classification.name" in asked.origins
    if by_key and name is not None:
        raise UserError(
            "--model: model.classification.name is given as well; name the network once"
        )
    if from_scratch and asked.model.classification.pretrained:
        raise UserError(f"--from-scratch: {PRETRAINED} is given as well; leave one out")
    if by_key:
        return {}, False
    variant = name or MODEL
    registered, options = VARIANT_NAMES.get(variant, (variant, {}))
    if registered not in CLASSIFIERS:
        hint = suggestion(variant, {*VARIANT_NAMES, *CLASSIFIERS.names()})
        raise UserError(f"--model: no model is called {variant!r} - {hint}; see cvnets list models")
    network: dict[str, Any] = {"model.classification.name": registered}
    for key, kind in CLASSIFIERS[registered].sections.items():
        if options and options.keys() <= kind.fields().keys():
            network[f"model.classification.{key}"] = options
    if from_scratch or PRETRAINED in asked.origins or variant not in named_weights():
        return network, False
    head = {"model.classification.finetune_pretrained_model": True}
    return network | {PRETRAINED: variant} | head, True


def _expected_images(recipe: Recipe, classes: int, named: bool) -> Preprocessing | None:
    """What the weights of the recipe expect of images, RGB; None without weights."""
    path, section = recipe.model.classification.pretrained, recipe.model
    if path is None:
        return None
    try:
        with under(PRETRAINED, path):
            return load_weights(
                build_classifier(section, classes),
                path,
                exclude=section.resume_exclude_scopes,
                ignore_missing=section.ignore_missing_scopes,
                rename=section.rename_scopes_map,
                source=section.weights_source,
            ).preprocessing
    except UserError as error:
        if not named:
            raise
        raise UserError(f"{error}; or train without weights: --from-scratch") from None


# --- the images ----------------------------------------------------------------------------------


def _check_results(recipe: Recipe) -> None:
    """The pictures of a run must not become images of the next one."""
    results = Path(recipe.common.results_loc).resolve()
    for root in {recipe.dataset.root_train, recipe.dataset.root_val} - {None}:
        if results.is_relative_to(Path(str(root)).resolve()):
            raise UserError(
                f"common.results_loc: {recipe.common.results_loc} lies in the folder of images, whose "
                "pictures it would join; run from another folder, or set it to a folder elsewhere"
            )


def _looked_at(recipe: Recipe) -> Data:
    """Open both splits, and read some of their images: UserError for one that cannot be read."""
    task = build_task(recipe)
    splits = ["train"] if recipe.dataset.disable_val else ["train", "val"]
    datasets = {split: task.build_source(split).dataset for split in splits}
    names = task.class_names
    if len(names) < 2:
        raise UserError(
            f"dataset.root_train: one class only, {names[0]}; two at least are needed to tell apart"
        )
    sides = [side for dataset in datasets.values() for side in _short_sides(dataset)]
    side = float(np.median(sides))
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    words = {"train": "for training", "val": "for validation"}
    counts = " and ".join(f"{len(dataset)} {words[split]}" for split, dataset in datasets.items())
    line = f"{len(names)} classes ({shown}); images: {counts}, with short sides about {side:.0f} pixels"
    return Data(len(names), len(datasets["train"]), side, line)


def _short_sides(dataset: ImageDataset) -> list[int]:
    """Of some images, evenly spaced, or all if they are few."""
    places = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), LOOKED_AT)).astype(int))
    sides, mistakes = [], []
    for index in places.tolist():
        try:
            sides.append(min(dataset.load(index)[0].shape[:2]))
        except ImageError as error:
            mistakes.append(error)
    if mistakes:
        of = f" ({len(mistakes)} of {len(places)} images read)" if len(mistakes) > 1 else ""
        raise UserError(f"{mistakes[0]}; repair or remove it{of}")
    return sides


# --- what to tell --------------------------------------------------------------------------------


def _own(recipe: Recipe) -> ImageFolderOptions:
    section = CLASSIFICATION_DATASETS.options_of(recipe.dataset, name=DATA)
    assert isinstance(section, ImageFolderOptions)
    return section


def _split_line(recipe: Recipe) -> list[str]:
    if recipe.dataset.name != DATA:
        return []
    own = _own(recipe)
    return [
        f"split: {own.val_percentage:g} % of the images of each class validate, chosen by a hash of "
        f"seed {own.split_seed} and their names (dataset.image_folder)"
    ]


def _chosen(recipe: Recipe, data: Data) -> list[str]:
    network, bs = recipe.model.classification, recipe.dataset.train_batch_size0
    start = f"from the weights {network.pretrained}" if network.pretrained else "from scratch"
    options = CLASSIFIERS.options_of(network)
    given = options.model_fields_set
    size = ", ".join(f"{key} {getattr(options, key)}" for key in sorted(given))
    epochs, path = recipe.scheduler.max_epochs, run_folder(recipe) / RECIPE
    crop = recipe.image_augmentation.center_crop.size
    return [
        f"network: {network.name}" + (f" ({size})" if size else "") + f", {start}",
        f"chosen for {data.train} images: {epochs} epochs in batches of {bs} per process, images of "
        f"{'x'.join(map(str, crop)) if isinstance(crop, tuple) else crop} pixels",
        f"the recipe: {path}; change anything by key=value, or in a copy of it",
    ]
