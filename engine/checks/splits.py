"""The check of a recipe that is the same for every task: its splits. The rest is the task's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.errors import UserError
from data.loader import Source
from engine.checkpoint import write_json
from engine.checks.finding import Finding
from engine.parts import build_task
from engine.reading import located
from engine.recipe import Recipe
from engine.run_folder import run_folder
from engine.task import Task

RESULT = "check.json"
SHOWN = 10  # names of classes


def check(recipe: Recipe, out: Path | None = None) -> Iterator[Finding]:
    """Look at the data of the recipe, and at what its task says of them; nothing is trained.

    Findings come one by one, and stand in check.json in the end, with the pictures beside it.
    `out`: a folder that is new, empty or has another check in it; default: `check` in the run
    folder. UserError for another folder, and for a recipe that its task refuses.
    """
    task = build_task(recipe)
    folder = _opened(run_folder(recipe) / "check" if out is None else out)
    findings = []
    for finding in _findings(task, folder):
        findings.append(finding)
        yield finding
    record = {
        "ok": all(finding.ok for finding in findings),
        "findings": [finding.as_json() for finding in findings],
    }
    write_json(folder / RESULT, record)


def _opened(folder: Path) -> Path:
    """The folder, without what another check has left in it."""
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / RESULT).is_file()
    ):
        raise UserError(
            f"{folder}: holds something else than the result of a check; choose another folder with "
            "--out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _pictures(folder / RESULT):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; choose another") from None
    return folder


def _pictures(result: Path) -> list[str]:
    """The pictures that a check has drawn."""
    try:
        findings = json.loads(result.read_text(encoding="utf-8"))["findings"]
    except (FileNotFoundError, ValueError, KeyError):
        return []
    return [Path(f["figures"]["picture"]).name for f in findings if "picture" in f["figures"]]


def _findings(task: Task, folder: Path) -> Iterator[Finding]:
    sources: dict[str, Source] = {}
    try:
        with located(task.recipe):
            yield from _splits(task, sources)
            if sources:
                further = iter(task.findings(sources, folder))
                yield next(further, Finding("Task", ("no further checks",)))
                yield from further
    except UserError as error:
        yield Finding("Stopped", problems=tuple(error.lines()))


def _splits(task: Task, sources: dict[str, Source]) -> Iterator[Finding]:
    """Open the splits into `sources`; one that does not open leaves the others to be looked at."""
    lines, problems, figures = [], [], dict[str, Any]()
    for split in _names(task):
        try:
            with located(task.recipe):
                source = task.build_source(split)
        except UserError as error:
            problems += error.lines()
            continue
        sources[split] = source
        report = getattr(source.dataset, "report", None)
        said = report.lines() if report is not None else [f"{len(source)} images"]
        lines += [f"{split}: {line}" for line in said]
        figures[split] = {"images": len(source)}
    if classes := task.class_names:
        more = ", ..." if len(classes) > SHOWN else ""
        lines.append(f"{len(classes)} classes: {', '.join(classes[:SHOWN])}{more}")
    yield Finding("Data", tuple(lines), tuple(problems), figures | {"classes": list(classes)})


def _names(task: Task) -> list[str]:
    """The splits that the recipe has."""
    data = task.recipe.dataset
    asked = {"train": True, "val": not data.disable_val, "test": data.root_test is not None}
    return [split for split, there in asked.items() if there]
