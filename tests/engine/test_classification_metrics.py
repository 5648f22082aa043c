"""The further metrics of classifiers, against scikit-learn and by hand, and over any dealing."""

import csv
import math
import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn import metrics as reference

import engine.components  # noqa: F401 - registers the metrics
from config.errors import StopRequested, UserError
from config.registry import compose
from engine import load_recipe, train
from engine.distributed import StopSignal
from engine.kinds import METRICS
from engine.metrics.metric import Observation, build_metrics, results
from engine.settings import StatsOptions
from loss_fn.output import LossOutput

NAMES = ["confusion_matrix", "average_precision", "prob_hist"]


def seen(logits, targets):
    loss = LossOutput(torch.tensor(0.0))
    return Observation(torch.as_tensor(logits), torch.as_tensor(targets), loss, len(logits))


def batches(num=12, classes=6, several=False):
    """Observations with rounded logits, so that there are ties; class 4 occurs nowhere."""
    generator = torch.Generator().manual_seed(5)
    found = []
    for number in range(num):
        size = (3 + number % 4, classes)
        logits = (2 * torch.randn(size, generator=generator)).round(decimals=1)
        if several:
            targets = (torch.rand(size, generator=generator) < 0.3).float()
            targets[:, 4] = 0
        else:
            targets = torch.randint(0, 4, size[:1], generator=generator)
        found.append(seen(logits, targets))
    return found


def measured(name, observations, stats=None):
    metric = build_metrics([name], stats)[name]
    for observation in observations:
        metric.update(observation)
    return metric, metric.result([metric.state()])


def whole(observations):
    logits = torch.cat([o.outputs for o in observations]).double().numpy()
    return logits, torch.cat([o.targets for o in observations]).numpy()


def test_confusion_matrix_is_scikit_learns():
    observations = batches()
    metric, found = measured("confusion_matrix", observations)
    logits, labels = whole(observations)
    guesses = torch.from_numpy(logits).argmax(1).numpy()  # the first of equal logits, as the metric
    matrix = reference.confusion_matrix(labels, guesses, labels=range(6))
    assert (metric._confusion([metric.state()]).counts == matrix).all()
    assert found["accuracy_global"] == pytest.approx(
        100 * reference.accuracy_score(labels, guesses), rel=1e-12
    )
    recalls = reference.recall_score(labels, guesses, labels=range(4), average=None)
    assert found["class_accuracy"] == pytest.approx(100 * recalls.mean(), rel=1e-12)
    present = sorted(set(labels) | set(guesses))
    jaccard = reference.jaccard_score(labels, guesses, labels=present, average="macro")
    assert found["mean_iou"] == pytest.approx(100 * jaccard, rel=1e-12)


def test_confusion_matrix_takes_soft_targets_and_leaves_out_negative_labels():
    logits = [[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]]
    _, soft = measured("confusion_matrix", [seen(logits, [[0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])])
    assert soft["accuracy_global"] == pytest.approx(100 / 3)
    _, empty = measured("confusion_matrix", [seen(logits, [[0.6, 0.4], [0.0, 0.0], [0.1, 0.9]])])
    assert empty["accuracy_global"] == 50  # an image of no class at all
    metric, hard = measured("confusion_matrix", [seen(logits, [0, 1, -1])])
    assert hard["accuracy_global"] == 100
    assert metric.state()["cells"] == [[0, 1], [3, 1]]


def test_average_precision_is_scikit_learns():
    observations = batches(several=True)
    _, found = measured("average_precision", observations)
    logits, labels = whole(observations)
    expected = [
        reference.average_precision_score(labels[:, c], logits[:, c]) for c in (0, 1, 2, 3, 5)
    ]
    assert found == pytest.approx(100 * np.mean(expected), rel=1e-12)


def test_average_precision_of_single_labels_ranks_by_softmax():
    observations = batches()
    _, found = measured("average_precision", observations)
    logits, labels = whole(observations)
    scores = torch.from_numpy(logits).softmax(1).numpy()
    expected = [reference.average_precision_score(labels == c, scores[:, c]) for c in range(4)]
    assert found == pytest.approx(100 * np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_average_precision_keeps_scores_as_they_came_and_one_label_per_image(several):
    observations = batches(several=several)
    state = measured("average_precision", observations)[0].state()
    for (scores, labels), each in zip(state, observations, strict=True):
        assert scores.dtype == torch.float32
        assert torch.equal(scores, each.outputs)
        assert torch.equal(labels, each.targets)
        assert labels.ndim == 1 + several
        # no view: that would keep alive what it was cut from
        assert labels.untyped_storage().data_ptr() != each.targets.untyped_storage().data_ptr()


def test_average_precision_leaves_out_images_without_a_label():
    logits = [[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [5.0, 4.0]]
    some = measured("average_precision", [seen(logits, [0, 1, -1, 0])])[1]
    assert some == measured("average_precision", [seen(logits[:2] + logits[3:], [0, 1, 0])])[1]


def test_average_precision_is_refused_in_training(tiny_recipe):
    with pytest.raises(UserError) as error:
        load_recipe(tiny_recipe | {"stats.train": ["loss", "average_precision"]})
    assert str(error.value).endswith(
        "stats.train: average_precision keeps all scores, and so would every saved state; put it in "
        "stats.val"
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("top1.x", "top1 has no part 'x'; choose one of top1"),
        ("top5.x", "top5 has no part 'x'; choose one of top5"),
        ("average_precision.x", "has no part 'x'; choose one of average_precision"),
        ("prob_hist", "prob_hist has no part ''; choose one of prob_hist.0.00-0.10, "),
        ("prob_hist.0.9-1.0", "choose one of prob_hist.0.00-0.10, prob_hist.0.10-0.20, "),
    ],
)
def test_a_part_that_no_metric_has_is_found_in_the_recipe(tiny_recipe, metric, text):
    val = {"stats.val": ["loss", "top1", "top5", *NAMES]}
    with pytest.raises(UserError) as error:
        load_recipe(tiny_recipe | val | {"stats.checkpoint_metric": metric})
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_message_lists_few_parts(tiny_recipe):
    """Of a thousand bins the nearest, or the first."""
    given = {"stats.val": ["loss", "prob_hist"], "stats.prob_hist.num_bins": 1000}
    for part, shown in (("0.99-0.991", "prob_hist.0.990-0.991"), ("?", "prob_hist.0.000-0.001, ")):
        with pytest.raises(UserError) as error:
            load_recipe(tiny_recipe | given | {"stats.checkpoint_metric": f"prob_hist.{part}"})
        assert shown in str(error.value)
        assert len(str(error.value)) < 500


@pytest.mark.parametrize("bins", [1, 3, 10, 100, 1000])
def test_every_bin_can_be_the_checkpoint_metric(tiny_recipe, bins):
    """The names that the recipe is checked against are those that are measured, all different."""
    stats = compose(StatsOptions, train=METRICS, val=METRICS)(prob_hist={"num_bins": bins})
    metric, found = measured("prob_hist", batches(), stats)
    assert tuple(found) == metric.parts
    assert len(set(metric.parts)) == bins
    given = {"stats.val": ["loss", "prob_hist"], "stats.prob_hist.num_bins": bins}
    load_recipe(tiny_recipe | given | {"stats.checkpoint_metric": f"prob_hist.{metric.parts[-1]}"})


def test_average_precision_by_hand():
    """Right, wrong, right: (1 + 2/3) / 2; an entry of -1 does not count; nothing positive, no value."""
    logits = [[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [5.0, 4.0]]
    labels = [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    assert measured("average_precision", [seen(logits, labels)])[1] == pytest.approx(250 / 3)
    none = measured("average_precision", [seen(logits, torch.zeros(4, 2))])[1]
    assert math.isnan(none)
    assert math.isnan(measured("average_precision", [])[1])


def test_histogram_of_probabilities_by_hand():
    """Two classes: the surer one has sigmoid(difference); never below a half, and 1 is in the last bin."""
    differences = [0.0, 0.3, 1.0, 2.0, 40.0]  # 0.5, 0.574, 0.731, 0.881, 1
    logits = [[0.0, value] for value in differences]
    stats = compose(StatsOptions, train=METRICS, val=METRICS)(prob_hist={"num_bins": 4})
    _, found = measured("prob_hist", [seen(logits, [0] * 5)], stats)
    assert found == {"0.00-0.25": 0, "0.25-0.50": 0, "0.50-0.75": 60, "0.75-1.00": 40}
    assert len(measured("prob_hist", batches())[1]) == 10
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        compose(StatsOptions, train=METRICS, val=METRICS)(prob_hist={"num_bins": 0})


@pytest.mark.parametrize("several", [False, True])
def test_merge_has_the_same_bits_for_every_dealing(several):
    observations = batches(40, several=several)
    names = NAMES if not several else ["average_precision", "prob_hist"]
    values = []
    for processes in (1, 2, 3, 5):
        shuffled = random.Random(processes).sample(observations, len(observations))
        ranks = [build_metrics(names) for _ in range(processes)]
        for number, observation in enumerate(shuffled):
            for name in names:
                ranks[number % processes][name].update(observation)
            if number % 7 == 0:  # a state that is saved on the way
                ranks[0][names[0]].state()
        states = [{name: rank[name].state() for name in names} for rank in ranks]
        values.append(results({name: ranks[0][name] for name in names}, states))
    assert values[0] == values[1] == values[2] == values[3]


def test_in_a_run_and_after_a_resume(tiny_recipe, monkeypatch):
    """All in evaluation, and in training all that may; saved within an epoch, and merged again."""
    steps, original = [], StopSignal.agree

    def agree(self, *, save):
        steps.append(save)
        self.requested = len(steps) == 5
        return original(self, save=save)

    changes = {
        "stats.train": ["loss", "confusion_matrix", "prob_hist"],
        "stats.val": ["loss", "top1", *NAMES],
        "stats.checkpoint_metric": "confusion_matrix.accuracy_global",
        "common.auto_resume": True,
        "scheduler.max_epochs": 1,
    }
    summary = train(load_recipe(tiny_recipe | changes | {"common.run_label": "whole"}))
    broken = load_recipe(tiny_recipe | changes | {"common.run_label": "broken"})
    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "agree", agree)
        with pytest.raises(StopRequested):
            train(broken)
    assert train(broken)["last"] == summary["last"]
    assert summary["confusion_matrix.accuracy_global"] == summary["top1"]
    last = summary["last"]
    assert 0 < last["train.confusion_matrix.accuracy_global"] <= 100
    assert 0 < last["val.average_precision"] <= 100
    shares = [v for k, v in last.items() if k.startswith("val.prob_hist.")]
    assert sum(shares) == pytest.approx(100)
    with open(f"{summary['run']}/best/confusion_matrix.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["across", "down", "slant"]
    counts = np.array([row[1:] for row in rows[1:]], int)
    assert counts.sum() == 33
    assert 100 * counts.trace() / 33 == pytest.approx(summary["top1"])
