"""No option is accepted and ignored: each one has a reader, found by watching runs and by reading code.

Small trainings and evaluations are watched: which option does which file read? For an option that
they do not come by, the file that declares it, or the one that `ELSEWHERE` names, must read an
attribute of that name; or a row of `engine.effects` says in a line that nothing reads it.
"""

import ast
import inspect
import sys
import typing
from functools import cache
from pathlib import Path

import pytest

from config.options import Options, Section
from engine import evaluate, load_recipe, train
from engine.effects import rows
from engine.recipe import recipe_type

ROOT = Path(__file__).resolve().parent.parent
# they go through all options there are, whatever these mean
BLIND = {"resolved.py", "reading.py", "registry.py", "effects.py", "options.py"}
# keys that these runs do not come by (of a section, where they end in a dot) -> who reads them
ELSEWHERE = {
    "common.release": "config/releases.py",
    "common.resume_changes": "engine/run_folder.py",
    "common.plugins": "config/plugins.py",
    "common.mixed_precision_dtype": "engine/precision.py",
    "dataset.category": "engine/reading.py",
    "sampler.chain_sampler": "data/sampler/chain.py",
    "sampler.chain_sampler.task_name": "engine/training_data.py",
    "sampler.chain_sampler.": "engine/effects.py",  # some are named there as without effect
    "image_augmentation.to_tensor.mean_std_normalization.": "engine/task.py",
    "image_augmentation.random_order.apply_k": "data/transforms/segmentation.py",
    "loss.composite_loss.loss_": "engine/losses.py",
    "evaluation.detection.": "engine/commands/eval.py",
    "evaluation.segmentation.": "engine/commands/eval.py",
    "expected.weights": "engine/verification.py",
    "model.classification.finetune_pretrained_model": "engine/pretrained.py",
}


def every_option(kind, prefix=""):
    """(dotted key, class, field) of all options below a class."""
    for name, field in kind.fields().items():
        dotted = f"{prefix}.{name}" if prefix else name
        inner = [field.annotation, *typing.get_args(field.annotation)]
        sections = [t for t in inner if inspect.isclass(t) and issubclass(t, Options)]
        if sections:
            yield from every_option(sections[0], dotted)
        else:
            yield dotted, kind, name


@cache
def attributes_of(path: Path) -> frozenset[str]:
    """Names that a file reads: as attributes, or as texts (getattr)."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    read = {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    return frozenset(
        read | {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    )


def declared_in(kind: type, name: str) -> Path:
    """The file of the class that declares an option."""
    owner = next(base for base in kind.__mro__ if name in inspect.get_annotations(base))
    return Path(inspect.getfile(owner))


@pytest.fixture
def watched(monkeypatch):
    """(class that declares it, option) of all that was read by a file of the library."""
    seen = set()
    original = Options.__getattribute__

    def spy(self, name):
        if not name.startswith("_") and name in type(self).model_fields:
            reader = Path(sys._getframe(1).f_code.co_filename)
            if ROOT in reader.parents and reader.name not in BLIND and "tests" not in reader.parts:
                seen.add((type(self).__name__, name))
        return original(self, name)

    monkeypatch.setattr(Options, "__getattribute__", spy)
    return seen


def test_every_option_has_a_reader(watched, tiny_recipe, detection_recipe, segmentation_recipe):
    detection_recipe["anchor_generator.ssd.aspect_ratios"] = [[2, 3], [2, 3], [2, 3], [2]]
    pretrained = ("classification", "detection", "segmentation")
    for task, recipe in zip(
        pretrained, (tiny_recipe, detection_recipe, segmentation_recipe), strict=True
    ):
        recipe |= {"common.run_label": task, "scheduler.max_epochs": 1}
        summary = train(load_recipe(recipe))
        weights = {f"model.{task}.pretrained": f"{summary['run']}/checkpoint_last.pt"}
        evaluate(load_recipe(recipe | weights))
    missing = []
    for key, kind, name in every_option(recipe_type()):
        if (kind.__name__, name) in watched or key.startswith("teacher."):
            continue
        if ROOT not in declared_in(kind, name).parents or "tests" in declared_in(kind, name).parts:
            continue  # a plugin of another test
        if (kind.__name__, name) in without_reader():  # named in a line
            continue
        if name == "name" and issubclass(kind, Section):  # the registry reads it
            continue
        files = [ROOT / file for start, file in ELSEWHERE.items() if key.startswith(start)]
        found = frozenset().union(*map(attributes_of, [declared_in(kind, name), *files]))
        if not ({name, key} & found or any(text.endswith(f".{name}") for text in found)):
            missing.append(f"{key} ({declared_in(kind, name).relative_to(ROOT)})")
    assert missing == [], "\n".join(missing)


@cache
def without_reader():
    """(class that declares it, option) of what has no effect in any run."""
    idle = {}
    for task in ("classification", "detection", "segmentation"):
        for key, unread, _ in rows(load_recipe({"dataset.category": task})):
            idle.setdefault(key, []).append(unread)
    kinds = {key: (kind.__name__, name) for key, kind, name in every_option(recipe_type())}
    return {kinds[key] for key, found in idle.items() if all(found) and key in kinds}
