"""What a conversion mends or leaves out: counted, with examples, so that nothing goes silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KINDS = {  # what is noticed -> how it is told, after the count
    "unreadable": "image(s) that cannot be read, left out",
    "test": "image(s) of the test split, left out",
    "unlisted": "image(s) in no split, left out",
    "listed_twice": "image(s) named twice in a split, kept once",
    "in_both_splits": "image(s) of both splits, kept in both: evaluation sees training images",
    "renamed": "image(s) renamed, because another one has the name",
    "turned": "image(s) with an orientation tag, which training ignores: look whether boxes fit",
    "no_label_file": "image(s) without a label file, kept as images without objects",
    "shared": "image(s) that share a label file with another one, kept",
    "unused": "label file(s) without an image or of an image in no split, left out",
    "clipped": "box(es) that reach outside their image, clipped",
    "outside": "box(es) wholly outside their image, dropped",
    "degenerate": "box(es) without area, dropped",
    "repeated": "object(s) that stand twice in their label file, kept once",
    "difficult_keep": "object(s) marked difficult, kept like the others",
    "difficult_crowd": "object(s) marked difficult, kept as crowds",
    "difficult_drop": "object(s) marked difficult, dropped",
    "from_zero": "box(es) that begin at 0, but Pascal VOC counts from 1: is --zero-based meant?",
}
_EXAMPLES = 3


class Findings:
    """What was found, by kind; paths below `root` are shown relative to it."""

    def __init__(self, root: Path):
        self.root = root
        self._found: dict[str, dict[str, None]] = {}  # an ordered set for each kind

    def add(self, kind: str, case: object) -> None:
        """Note a case of a kind of the table above, once."""
        assert kind in KINDS
        self._found.setdefault(kind, {})[str(case).removeprefix(f"{self.root}/")] = None

    def record(self) -> dict[str, dict[str, Any]]:
        """kind -> count, text and first examples."""
        return {
            kind: {"count": len(cases), "text": KINDS[kind], "examples": [*cases][:_EXAMPLES]}
            for kind, cases in self._found.items()
        }
