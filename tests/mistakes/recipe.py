"""Mistakes in recipes, on the command line and in plugins."""

from __future__ import annotations

from tests.mistakes.case import Case, write

IN_THE_RECIPE = [
    Case("a misspelt key", ("max_epochs", "max_epoch")),
    Case("a misspelt section", ("scheduler:", "schedular:")),
    Case("a key in the wrong section", ("name: adamw", "name: adamw\n  max_epochs: 5")),
    Case("a misspelt model", ("name: tiny", "name: mobilevitt")),
    Case("a misspelt optimizer", ("name: adamw", "name: sdg")),
    Case("a word for a number", ("max_lr: 1e-2", "max_lr: high")),
    Case("a fraction for a whole number", ("max_epochs: 1", "max_epochs: 1.5")),
    Case("true for a number", ("workers: 0", "workers: true")),
    Case("a number for true or false", ("tensorboard_logging: false", "tensorboard_logging: 0")),
    Case("nothing for a number", ("max_epochs: 1", "max_epochs: 1\n  warmup_init_lr:")),
    Case("a number that is too small", ("train_batch_size0: 4", "train_batch_size0: 0")),
    Case("a number that is too large", ("name: adamw", "adamw: {beta2: 1.0}")),
    Case("infinity", ("name: adamw", "weight_decay: .inf")),
    Case("no choice of these", ("device: cpu", "mixed_precision_dtype: float8")),
    Case("no such kind of device", ("device: cpu", "device: gpu")),
    Case(
        "three values where two belong",
        ("model:", "image_augmentation.resize.size: [1, 2, 3]\nmodel:"),
    ),
    Case("a value where a section belongs", ("optim:\n  name: adamw", "optim: adamw")),
    Case("a key given twice", ("max_epochs: 1", "max_epochs: 1\n  max_epochs: 2")),
    Case("a section given twice", ("stats:", "model:\n  layer: {}\nstats:")),
    Case("smallest above largest", ("  bs:", "  msc: {min_crop_size_width: 400}\n  bs:")),
    Case("lowest rate above the highest", ("min_lr: 1e-4", "min_lr: 1e-1")),
    Case(
        "a warm-up longer than the run",
        (
            "max_epochs: 1",
            "is_iteration_based: true\n  max_iterations: 50\n  warmup_iterations: 100",
        ),
    ),
    Case("iterations of a run that counts epochs", ("max_epochs: 1", "max_iterations: 50")),
    Case("a fixed schedule without its rate", ("max_epochs: 1", "max_epochs: 1\n  name: fixed")),
    Case("an unknown metric", ("val: [loss, top1]", "val: [loss, top1, top3]")),
    Case("a checkpoint metric that is not measured", ("val: [loss, top1]", "val: [loss]")),
    Case("an unknown observer", ("run_label: run", "run_label: run\n  observers: [consol]")),
    Case("an unknown task", ("dataset:", "dataset:\n  category: classify")),
    Case(
        "resume and finetune at once",
        words="train recipe.yaml common.resume=a.pt common.finetune=b.pt",
    ),
    Case(
        "several mistakes",
        ("name: adamw", "nam: adamw\n  weight_decay: -1"),
        words="train recipe.yaml scheduler.max_epochs=x",
    ),
    Case("wrong indentation", ("  max_epochs: 1", "   max_epochs: 1")),
    Case("a tab", ("  max_epochs: 1", "\tmax_epochs: 1")),
    Case("a bracket that is not closed", ("[loss, top1]", "[loss, top1")),
    Case("no mapping at all", prepare=write("recipe.yaml", "model\n")),
    Case(
        "a file in another encoding",
        prepare=write("recipe.yaml", b"common:\n  run_label: caf\xe9\n"),
    ),
]

ON_THE_COMMAND_LINE = [
    Case("no recipe of this name", words="train recip.yaml"),
    Case("a folder for a recipe", words="eval data"),
    Case("no recipe", words="train common.seed=1"),
    Case("two recipes", words="train recipe.yaml recipe.yaml"),
    Case("an unknown command", words="trian recipe.yaml"),
    Case(
        "a word that is not key=value",
        words="train recipe.yaml --common.override-kwargs common.seed",
    ),
    Case("a misspelt key", words="train recipe.yaml --optim.weight-decy 1e-4"),
    Case("a wrong value", words="train recipe.yaml common.seed=-1"),
    Case("a list that is not closed", words="train recipe.yaml stats.val=[loss"),
    Case("an unknown flag", words="train recipe.yaml -x"),
    Case("cvnets list of an unknown kind", words="list model"),
    Case("cvnets list with too many words", words="list models losses"),
    Case("cvnets explain of an unknown key", words="explain optim.weightdecay"),
    Case("cvnets explain of an old key", words="explain stats.name"),
]

PLUGINS = [
    Case("no such file", words="train recipe.yaml common.plugins=mine.py"),
    Case("no such module", words="train recipe.yaml common.plugins=my_package.models"),
    Case(
        "an error in it",
        words="train recipe.yaml common.plugins=mine.py",
        prepare=write("mine.py", "import torch\n\ntorch.no_such_thing\n"),
    ),
    Case(
        "no Python",
        words="train recipe.yaml common.plugins=mine.py",
        prepare=write("mine.py", "def f(:\n"),
    ),
    Case(
        "a name that is taken",
        words="train recipe.yaml common.plugins=mine.py",
        prepare=write(
            "mine.py",
            "from optim.kinds import OPTIMIZERS\n\n"
            "@OPTIMIZERS.register('sgd')\ndef mine(options, groups): ...\n",
        ),
    ),
]
