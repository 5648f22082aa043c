"""`cvnets convert-data`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from config.errors import UserError
from engine.commands.arguments import Arguments


def run(words: list[str]) -> int:
    """Convert labels of boxes into the layout of COCO; exit code 0."""
    from data.conversion import Findings, check_output, split_images, write_coco

    given = vars(_parser().parse_args(words))
    about = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    folder, out, copy = given.pop("folder"), given.pop("out"), given.pop("copy")
    share, seed, read = given.pop("val_share"), given.pop("seed"), _reader(given.pop("format"))
    del given["to"]  # one value, so far
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; give the one that holds images and labels")
    folder = Path(os.path.normpath(folder))
    root = folder if folder.is_dir() else folder.parent
    check_output(out, root)
    findings = Findings(root)
    labels = split_images(read(folder, findings, **given), root, share, seed)
    report = write_coco(labels, out, findings, copy=copy, about=about)
    print(*_lines(out, report), sep="\n")
    return 0


def _reader(name: str) -> Any:
    from data.conversion import read_voc_xml, read_yolo

    return {"yolo": read_yolo, "voc-xml": read_voc_xml}[name]


def _parser() -> Arguments:
    parser = Arguments("cvnets convert-data", description="convert labels of boxes, once")
    formats = parser.add_subparsers(dest="format", required=True, metavar="yolo|voc-xml")
    yolo = formats.add_parser("yolo", help="data.yaml or classes.txt, and a .txt file per image")
    voc = formats.add_parser("voc-xml", help="Pascal VOC's .xml file per image")
    for each in (yolo, voc):
        each.add_argument("folder", type=Path, metavar="DIR", help="what holds images and labels")
        each.add_argument("--to", choices=["coco"], default="coco", help="the layout to write")
        each.add_argument("--out", type=Path, required=True, help="folder to create")
        each.add_argument(
            "--val-share",
            type=float,
            help="share of the images to validate with, if the data have no such split; default 0.2",
        )
        each.add_argument("--seed", type=int, default=0, help="of the choice of these; default 0")
        each.add_argument("--copy", action="store_true", help="copy image files instead of linking")
    voc.add_argument(
        "--zero-based",
        action="store_true",
        help="corners are edges counted from 0; without it, pixels counted from 1 (Pascal VOC)",
    )
    voc.add_argument(
        "--difficult",
        choices=["keep", "crowd", "drop"],
        default="keep",
        help="objects marked difficult are kept (default), ignored as COCO's crowds, or dropped",
    )
    return parser


def _lines(out: Path, report: dict[str, Any]) -> list[str]:
    """What was written, a table of counts by split, and what was noticed."""
    files = ", ".join(f"{count} files {how}" for how, count in report["files"].items())
    rows = {key: report[key] for key in ("images", "images without objects", "objects")}
    table = [("", {"train": "train", "val": "val"}), *rows.items(), *report["classes"].items()]
    width = max(len(name) for name, _ in table)
    counts = [f"{name:{width}}  {row['train']:>8}  {row['val']:>8}" for name, row in table]
    noticed = [
        f"{found['count']} {found['text']}, e.g. {', '.join(found['examples'])}"
        for found in report["findings"].values()
    ]
    return [f"{out}: {files}", *counts, *noticed]
