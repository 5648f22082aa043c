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
        description="how many evaluated images it is the value of; figures of others are not "
        "compared, and the batch of others is not changed",
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
    expected: ExpectedOptions,
    common: CommonOptions,
    batch: int,
    processes: int,
    *,
    samples: int,
    validated: int | None,
) -> int | None:
    """How many micro-batches of `batch` images make the expected effective batch; None: not asked.

    Of `samples` images in all no step takes more than these; it does not depend on the number of
    processes, so neither does the training. Other data than those of the expected figure, told by
    the number of `validated` images, may want another batch: theirs is left as it is. UserError if
    `common.batch_policy` refuses a batch that is another one.
    """
    asked, policy = expected.effective_batch, common.batch_policy
    mine = batch * common.accum_freq * processes
    if asked is None or asked == mine:
        return None
    if policy == "refuse":
        raise UserError(
            f"expected.effective_batch: {asked}, but {processes} process(es) x {common.accum_freq} "
            f"x {batch} images are {mine}; change dataset.train_batch_size0 or common.accum_freq, or "
            "set common.batch_policy to solve"
        )
    other_data = validated is not None and expected.images not in (None, validated)
    if policy == "report" or other_data:
        why = "these are other data" if other_data else "common.batch_policy is report"
        log.info("effective batch %d, the recipe expects %d; %s", mine, asked, why)
        return None
    solved = max(1, min(round(asked / batch), samples // batch))
    exact = f", {solved * batch} is the nearest that {samples} images can make"
    log.info(
        "effective batch %d: %d micro-batches of %d images per step, on %d process(es)%s",
        asked,
        solved,
        batch,
        processes,
        "" if solved * batch == asked else exact,
    )
    if processes > solved:
        idle = processes - solved
        log.warning("%d processes have nothing to do: lower dataset.train_batch_size0", idle)
    return solved


def described(expected: ExpectedOptions, epochs: int) -> list[str]:
    """What a training should reach, in a line, and that it is shorter or longer than published."""
    if expected.value is None:
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
    if images is not None and expected.images not in (None, images):
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
