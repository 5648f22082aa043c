"""`expected`: what a recipe was published to reach, and with which batch; compared, never trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from config.errors import UserError
from config.options import OPERATIONAL, Options
from engine.settings import CommonOptions

log = logging.getLogger(__name__)


class ExpectedOptions(Options):
    """`expected`: a published figure, and what it was measured with."""

    metric: str | None = Field(
        None, description="which metric, a name of stats.val", json_schema_extra=OPERATIONAL
    )
    value: float | None = Field(
        None, description="the published value, in its units", json_schema_extra=OPERATIONAL
    )
    tolerance: float = Field(
        0.3,
        ge=0,
        description="what two runs may differ by, same units",
        json_schema_extra=OPERATIONAL,
    )
    source: str = Field("", description="where it is published", json_schema_extra=OPERATIONAL)
    images: int | None = Field(
        None,
        ge=1,
        description="how many evaluated images it is the value of; others are not compared",
        json_schema_extra=OPERATIONAL,
    )
    weights: str | None = Field(
        None,
        description="published weights that reach it, a name of cvnets list weights",
        json_schema_extra=OPERATIONAL,
    )
    effective_batch: int | None = Field(
        None, ge=1, description="images of the base size per optimizer step, over all processes"
    )
    epochs: int | None = Field(
        None, ge=1, description="epochs of the training", json_schema_extra=OPERATIONAL
    )
    input_size: int | tuple[int, int] | None = Field(
        None,
        description="images of the evaluation: side, or (height, width), pixels",
        json_schema_extra=OPERATIONAL,
    )


def micro_batches(
    expected: ExpectedOptions, common: CommonOptions, batch: int, processes: int, samples: int
) -> int | None:
    """How many micro-batches of `batch` images a step has by `common.batch_policy`; None: as usual.

    Solved, it is a function of the recipe and the number of `samples` alone, so it is the same in a
    resumed run and for any number of processes. UserError if the policy refuses another batch.
    """
    asked, policy = expected.effective_batch, common.batch_policy
    mine = batch * common.accum_freq * processes
    if asked is None:
        return None
    if policy == "solve":
        return _solved(asked, batch, processes, samples)
    text = (
        f"the recipe expects an effective batch of {asked}, but {processes} process(es) x "
        f"{common.accum_freq} x {batch} images are {mine}"
    )
    if asked != mine and policy == "refuse":
        raise UserError(
            f"expected.effective_batch: {text}; change dataset.train_batch_size0 or common.accum_freq, "
            "or set common.batch_policy to solve"
        )
    if asked != mine:
        log.warning(
            "%s: the learning rate may not fit; common.batch_policy=solve makes that batch", text
        )
    return None


def _solved(asked: int, batch: int, processes: int, samples: int) -> int:
    """The micro-batches that come nearest to `asked` images, of which there are `samples`."""
    solved = max(1, min(round(asked / batch), samples // batch))
    nearest = f", {solved * batch} is the nearest that {samples} images can make"
    log.info(
        "effective batch %d: %d micro-batches of %d images per step, on %d process(es)%s",
        asked,
        solved,
        batch,
        processes,
        "" if solved * batch == asked else nearest,
    )
    if processes > solved:
        idle = processes - solved
        log.warning("%d processes have nothing to do: lower dataset.train_batch_size0", idle)
    return solved


def described(expected: ExpectedOptions, epochs: int, images: int | None) -> list[str]:
    """What a training should reach, in a line, and that it is shorter or longer than published.

    Nothing for other data than those of the figure: `images` are those of the validation, if any.
    """
    if expected.value is None or _other(expected, images):
        return []
    size = expected.input_size
    shown = size if isinstance(size, int | None) else "x".join(map(str, size))
    about = [f"at {shown} pixels"] if shown else []
    about += [f"after {expected.epochs} epochs"] if expected.epochs else []
    about += [expected.source] if expected.source else []
    text = f"expected: {expected.metric} {expected.value:g} +- {expected.tolerance:g}"
    lines = [f"{text} ({', '.join(about)})" if about else text]
    if expected.epochs and expected.epochs != epochs:
        lines.append(f"this run has {epochs} epochs, the expected figure {expected.epochs}")
    return lines


def compared(
    expected: ExpectedOptions, metrics: Mapping[str, float], images: int | None = None
) -> dict[str, Any] | None:
    """The measured value beside the expected one, JSON types; None where nothing is expected.

    `images`: how many were evaluated, where it is known. `text` says it in a line, `reached` is
    None when the figures are not of the same images.
    """
    name, value = expected.metric, expected.value
    if name is None or value is None or name not in metrics:
        return None
    measured = metrics[name]
    found = {"metric": name, "measured": measured, "expected": value}
    found |= {"tolerance": expected.tolerance, "source": expected.source}
    if _other(expected, images):
        text = f"not compared: {images} images, the expected figure is of {expected.images}"
        return found | {
            "reached": None,
            "text": f"{name} {measured:.4g}, expected {value:g}; {text}",
        }
    off = measured - value
    reached = abs(off) <= expected.tolerance
    text = f"{abs(off):.2f} {'above' if off > 0 else 'below'}"
    verdict = (
        "within the tolerance" if reached else f"outside the tolerance of {expected.tolerance:g}"
    )
    return found | {
        "reached": reached,
        "text": f"{name} {measured:.4g}, expected {value:g}: {text}, {verdict}",
    }


def _other(expected: ExpectedOptions, images: int | None) -> bool:
    """Whether so many evaluated images are not those of the figure."""
    return images is not None and expected.images not in (None, images)
