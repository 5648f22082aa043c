"""Metrics against scikit-learn, and their merge over any dealing of the batches."""

import math
import random

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

import engine.components  # noqa: F401 - registers the metrics
from engine.metrics.metric import Observation, build_metrics, results
from loss_fn.output import LossOutput


def observations(num=9, classes=7):
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(num):
        images = 3 + number % 4
        logits = torch.randn(images, classes, generator=generator)
        labels = torch.randint(classes, (images,), generator=generator)
        loss = torch.rand((), generator=generator) * 10 ** (number % 5)
        found.append(Observation(logits, labels, LossOutput(loss, {"part": loss / 3}), images))
    return found


@pytest.mark.parametrize(("name", "k"), [("top1", 1), ("top5", 5)])
def test_top_k_is_scikit_learns(name, k):
    seen = observations()
    metrics = build_metrics([name])
    for observation in seen:
        metrics[name].update(observation)
    logits = torch.cat([o.outputs for o in seen]).numpy()
    labels = torch.cat([o.targets for o in seen]).numpy()
    expected = 100 * top_k_accuracy_score(labels, logits, k=k, labels=np.arange(7))
    assert metrics[name].result([metrics[name].state()]) == pytest.approx(expected, rel=1e-12)


def test_top_k_by_hand():
    """Soft targets count by their argmax, ignored labels not at all, k may exceed the classes."""
    outputs = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
    soft = torch.tensor([[0.6, 0.4, 0.0], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
    hard = torch.tensor([0, -1, 2])
    for targets, top1, top5 in ((soft, 200 / 3, 100.0), (hard, 50.0, 100.0)):
        metrics = build_metrics(["top1", "top5"])
        for name, value in (("top1", top1), ("top5", top5)):
            metrics[name].update(Observation(outputs, targets, LossOutput(torch.tensor(0.0)), 3))
            assert metrics[name].result([metrics[name].state()]) == pytest.approx(value)


def test_merge_has_the_same_bits_for_every_dealing():
    seen = observations(40)
    values = []
    for processes in (1, 2, 3, 5):
        shuffled = random.Random(processes).sample(seen, len(seen))
        ranks = [build_metrics(["top1", "top5"]) for _ in range(processes)]
        for number, observation in enumerate(shuffled):
            for metric in ranks[number % processes].values():
                metric.update(observation)
        states = [{name: metric.state() for name, metric in rank.items()} for rank in ranks]
        values.append(results(ranks[0], states))
    assert values[0] == values[1] == values[2] == values[3]
    assert set(values[0]) == {"loss", "loss.part", "top1", "top5"}
    total = sum(float(o.loss.total) * o.images for o in seen) / sum(o.images for o in seen)
    assert values[0]["loss"] == pytest.approx(total, rel=1e-12)


def test_a_loss_says_what_its_mean_goes_over():
    """Three pixels in one micro-batch and one in the next, two images each."""
    metrics = build_metrics(["loss"])
    for value, units in ((2.0, 3), (10.0, 1), (0.0, 0)):
        loss = LossOutput(torch.tensor(value), units=torch.tensor(units))
        metrics["loss"].update(Observation(None, None, loss, 2))
    states = [{name: metric.state() for name, metric in metrics.items()}]
    assert results(metrics, states)["loss"] == pytest.approx(4.0)


def test_counting_goes_on_after_a_state_was_taken():
    seen = observations(10)
    once, twice = build_metrics(["top1"]), build_metrics(["top1"])
    for number, observation in enumerate(seen):
        for name in once:
            once[name].update(observation)
            twice[name].update(observation)
            if number % 3 == 0:
                twice[name].state()
    for name in once:
        assert once[name].result([once[name].state()]) == twice[name].result([twice[name].state()])


@pytest.mark.parametrize(("training", "mean"), [(True, 2.0), (False, math.nan)])
def test_loss_that_is_not_finite_is_left_out_of_training_only(training, mean):
    """A training step without a finite loss is skipped; an evaluation without one has to show it."""
    metrics = build_metrics([])
    for value in (1.0, math.nan, 3.0):
        loss = LossOutput(torch.tensor(value))
        seen = Observation(torch.zeros(2, 2), torch.zeros(2), loss, 2, training=training)
        metrics["loss"].update(seen)
    merged = results(metrics, [{"loss": metrics["loss"].state()}])
    assert merged == {"loss": pytest.approx(mean, nan_ok=True)}
