"""Weights that a recipe names: loaded, reported, and compared with what the recipe feeds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from config.errors import UserError, under
from cvnets.models.encoder import ImageEncoder
from cvnets.weights.convert import identify
from cvnets.weights.files import WeightsFile
from cvnets.weights.fit import LoadReport, Network, Reinitialised
from cvnets.weights.load import load_weights, open_weights
from cvnets.weights.preprocessing import Preprocessing
from engine.classifier import build_classifier
from engine.kinds import TASKS
from engine.model_section import ClassifierSection, ModelSection, SegmentorSection
from engine.reading import load_recipe, task_name
from engine.recipe import Recipe

if TYPE_CHECKING:
    from engine.task import Task

log = logging.getLogger(__name__)
# What a recipe said of the weights that its own training began with, taken back.
WHOLE: dict[str, Any] = {
    "model.classification.pretrained": None,
    "common.finetune": None,
    "model.weights_source": "auto",
    "model.resume_exclude_scopes": "",
    "model.ignore_missing_scopes": "",
    "model.rename_scopes_map": [],
}
NORMALIZATION = "image_augmentation.to_tensor.mean_std_normalization"


def recipe_of(checkpoint: str | Path, overrides: Iterable[str]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that weights of ours carry, with themselves as `pretrained`, and their metadata.

    Plugins that it names are not imported. UserError for a file without a recipe.
    """
    metadata = open_weights(checkpoint)[0].metadata
    if not isinstance(metadata.get("recipe"), dict):
        raise UserError(
            f"{checkpoint}: carries no recipe; give a recipe, and the file as "
            "model.classification.pretrained, or that of model.detection or model.segmentation"
        )
    mapping, place = metadata["recipe"] | WHOLE, f"the recipe in {checkpoint}"
    recipe = load_recipe(mapping, overrides, plugins=False, place=place)
    if recipe.loss.needs_teacher and "loss.category" not in _keys(overrides):
        mapping["loss.category"] = None  # the teacher need not be here
        log.info("%s: its training had a teacher; the loss here is the task's own", checkpoint)
    mapping[pretrained_key(recipe)] = str(checkpoint)
    return load_recipe(mapping, overrides, plugins=False, place=place), metadata


def _keys(words: Iterable[str]) -> set[str]:
    """The keys of `a.b=value` words."""
    return {word.partition("=")[0].removeprefix("--") for word in words}


def pretrained_key(recipe: Recipe) -> str:
    """The key that names the weights of the whole network of the recipe's task."""
    key: str = TASKS[task_name(recipe)].registered.pretrained
    return key


def network_of(file: WeightsFile, variant: str | None) -> tuple[str, ImageEncoder]:
    """The network that weights belong to, fresh, and its name: `variant`, else the one that their
    own recipe says, else the one that they fit by names and shapes. UserError if there is none."""
    recipe = file.metadata.get("recipe")
    task = file.metadata.get("task", "classification")
    if variant is None and isinstance(recipe, dict) and task == "classification":
        section = load_recipe(recipe, plugins=False, place=f"the recipe in {file.path}").model
        model = build_classifier(section, len(file.metadata["classes"]))
        if isinstance(model, ImageEncoder):
            return section.classification.name, model
    found = identify(file, variant)
    return found.variant, found.build()


def load_pretrained(
    model: nn.Module, task: Task, key: str, path: str, *, backbone: bool = False
) -> LoadReport:
    """Load the weights that the recipe names at `key`, and print the table of what was loaded.

    The scope options and `model.weights_source` of the recipe count. `backbone`: of `model`, an
    encoder, only the backbone will be used. UserError if the weights do not fit, or were trained on
    images that were normalised otherwise than the recipe does it.
    """
    section = task.recipe.model
    own = _finetuned(task, key)
    fresh = _head_of(model) if own is not None and own.finetune_pretrained_model else {}
    report = load_as_said(model, section, key, path)
    if own is not None:
        _check_number(report, model, key, own.n_pretrained_classes)
    if backbone:
        report = _of_backbone(report, model)
    elif fresh:
        model.load_state_dict(fresh, strict=False)
        report = _with_new_head(report, fresh)
    log.info("%s", "\n".join(report.lines()))
    classes = report.metadata.get("classes") or list(task.class_names)
    renamed = len(classes) == len(task.class_names) and classes != list(task.class_names)
    if renamed and not backbone:
        log.info("%s: the classes are kept, but they have other names than in the data", path)
    _compare(report.preprocessing, task.preprocessing(), key, path, sizes=not backbone)
    return report


def load_as_said(network: nn.Module, section: ModelSection, key: str, path: str) -> LoadReport:
    """Load weights with the scope options and the source of their section; messages begin with `key`."""
    with under(key, path):
        return load_weights(
            network,
            path,
            exclude=section.resume_exclude_scopes,
            ignore_missing=section.ignore_missing_scopes,
            rename=section.rename_scopes_map,
            source=section.weights_source,
        )


def _finetuned(task: Task, key: str) -> ClassifierSection | SegmentorSection | None:
    """The section that says how the weights at `key` are fine-tuned; None if they are not."""
    model = task.recipe.model
    sections: dict[str, ClassifierSection | SegmentorSection] = {
        "model.classification.pretrained": model.classification,
        "model.segmentation.pretrained": model.segmentation,
    }
    return sections.get(key) if task.trains else None


def _head_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the entries that depend on the number of classes."""
    network = Network.of(model)
    return {key: value.clone() for key, value in network.state.items() if network.in_head(key)}


def _with_new_head(report: LoadReport, fresh: Mapping[str, Tensor]) -> LoadReport:
    """The report, where a head that was loaded has been replaced by a fresh one."""
    replaced = tuple(
        Reinitialised(key, shape, shape, "finetune_pretrained_model is true")
        for key in report.loaded
        if key in fresh
        for shape in (tuple(fresh[key].shape),)
    )
    return replace(
        report,
        loaded=tuple(key for key in report.loaded if key not in fresh),
        reinitialised=(*report.reinitialised, *replaced),
    )


def _check_number(report: LoadReport, model: nn.Module, key: str, asked: int | None) -> None:
    """UserError if the head of the file has another number of classes than `asked`."""
    shapes = {e.key: e.file_shape for e in report.reinitialised if e.file_shape}
    network = Network.of(model)
    shapes |= {name: tuple(network.state[name].shape) for name in report.loaded}
    # a linear layer and a convolution both have the classes in front, and the last of them counts
    sizes = [shapes[name][0] for name in network.state if network.in_head(name) and name in shapes]
    if asked is not None and sizes and sizes[-1] != asked:
        section = key.rpartition(".")[0]
        raise UserError(
            f"{section}.n_pretrained_classes: {asked} in the recipe, but {report.path} has "
            f"{sizes[-1]}; set it to {sizes[-1]} or leave it out"
        )


def _of_backbone(report: LoadReport, encoder: nn.Module) -> LoadReport:
    """The report without the parts of a classifier that the backbone goes without."""
    network = Network.of(encoder)
    parts = tuple(f"{part}." for part in (*network.head, *network.behind))
    return replace(
        report,
        loaded=tuple(key for key in report.loaded if not key.startswith(parts)),
        reinitialised=tuple(e for e in report.reinitialised if not e.key.startswith(parts)),
    )


def check_complete(report: LoadReport, key: str) -> None:
    """UserError if anything of a network that is to be evaluated started anew."""
    if report.reinitialised:
        first = report.reinitialised[0]
        raise UserError(
            f"{key}: {report.path}: evaluation needs all weights, and {len(report.reinitialised)} "
            f"entries would start anew ({first.key}: {first.why}); evaluate the network that they belong to"
        )


def _compare(
    weights: Preprocessing, fed: Preprocessing, key: str, path: str, *, sizes: bool
) -> None:
    """The normalisation must agree; another size or filter is only worth a line."""
    if weights.mean is not None and weights.std is not None:
        expected, given = ((about.mean, about.std) for about in (weights, fed))
        if _rounded(expected) != _rounded(given):
            raise UserError(
                f"{key}: {path}: its weights expect {_normalisation(weights)}, the recipe feeds "
                f"{_normalisation(fed)}; set {_fix(weights)}"
            )
    for name in ("resize", "crop", "interpolation") if sizes else ():
        theirs, ours = getattr(weights, name), getattr(fed, name)
        if theirs is not None and ours is not None and theirs != ours:
            log.info("%s: evaluated with %s %s, this recipe says %s", path, name, theirs, ours)


def _rounded(triples: Sequence[Sequence[float] | None]) -> list[list[float]]:
    return [[round(value, 4) for value in triple or ()] for triple in triples]


def _normalisation(about: Preprocessing) -> str:
    if about == Preprocessing(
        resize=about.resize, crop=about.crop, interpolation=about.interpolation
    ):
        return "values in [0, 1] without normalisation"
    return f"values normalised by mean {_listed(about.mean)} and std {_listed(about.std)}"


def _fix(about: Preprocessing) -> str:
    plain = Preprocessing()
    if (about.mean, about.std) == (plain.mean, plain.std):
        return f"{NORMALIZATION}.enable=false"
    return (
        f"{NORMALIZATION}.enable=true {NORMALIZATION}.mean={_listed(about.mean)} "
        f"{NORMALIZATION}.std={_listed(about.std)}"
    )


def _listed(values: Sequence[float] | None) -> str:
    return f"[{','.join(f'{value:g}' for value in values or ())}]"
