"""Does a teacher help? MobileNetV1-0.25 on the generated shapes, with and without a ResNet-18.

cvnets shapes --layout imagefolder --out results/shapes
python benchmarks/distillation.py [--seeds N] [--epochs N]

Both students get the same budget of epochs and the same seeds; prints top-1 of each.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import engine

STUDENT = {
    "model.classification.name": "mobilenetv1",
    "model.classification.mobilenetv1.width_multiplier": 0.25,
    "model.classification.activation.name": "relu",
}
TEACHER = {
    "model.classification.name": "resnet",
    "model.classification.resnet.depth": 18,
    "model.classification.activation.name": "relu",
}


def top1(label: str, changes: dict[str, Any]) -> tuple[float, str]:
    """Train with the demo's recipe; top-1 of the best averaged weights in percent, the run folder."""
    given = {"common.results_loc": "results/distillation", "common.run_label": label}
    words = [f"{key}={value}" for key, value in (given | changes).items()]
    summary = engine.train(engine.load_recipe("demo/classification", words))
    return summary["best"]["ema"]["top1"], summary["run"]


def main() -> None:
    """Print one row per seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    budget = {"scheduler.max_epochs": arguments.epochs}
    score, folder = top1("teacher", TEACHER | budget)
    taught = {f"teacher.{key}": value for key, value in TEACHER.items()}
    taught |= {
        "loss.category": "distillation",
        "loss.distillation.soft_kl_loss.temperature": 2.0,
        "teacher.model.classification.pretrained": f"{folder}/checkpoint_ema_best.pt",
    }
    rows = []
    for seed in range(arguments.seeds):
        own = STUDENT | budget | {"common.seed": seed}
        alone, _ = top1(f"alone_{seed}", own)
        with_teacher, _ = top1(f"taught_{seed}", own | taught)
        rows.append((alone, with_teacher))
    print(f"teacher: top-1 {score:.2f} %")
    for seed, (alone, with_teacher) in enumerate(rows):
        print(f"seed {seed}: alone {alone:.2f} %, with the teacher {with_teacher:.2f} %")
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    print(f"mean: alone {means[0]:.2f} %, with the teacher {means[1]:.2f} %")


if __name__ == "__main__":
    main()
