"""Reads labels of Pascal VOC: one XML file per image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from config.errors import Problem
from data.conversion.findings import Findings
from data.conversion.labels import LabelledObject, Labels, number, numbered_lines, read_bytes
from data.conversion.layouts import (
    LabelFiles,
    Listed,
    image_folder,
    images_below,
    images_by_folder,
    split_lists,
)

_LABELS = ("Annotations", "annotations", "annotations/xmls", "xmls", "labels")
_MIRRORS: dict[str, tuple[str, ...]] = {"JPEGImages": _LABELS, "images": _LABELS}
_LISTS = ("ImageSets/Main", "*/ImageSets/Main", "*/*/ImageSets/Main")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LINE = "line of the file"  # the attribute that says where an element begins


def read_voc_xml(
    folder: Path, findings: Findings, *, zero_based: bool = False, difficult: str = "keep"
) -> Labels:
    """Read `folder`: with ImageSets/Main (in itself or below, as in VOCdevkit), with a folder per
    split, or images and XML files side by side.

    Pascal VOC counts pixels from 1 and both corners belong to the box: its left edge is xmin - 1,
    its width xmax - xmin + 1. With `zero_based` corners are edges, counted from 0. Objects marked
    difficult: "keep", "crowd" (COCO's evaluation ignores these, training leaves them out), "drop".
    Raises UserError with file:line for all that cannot be understood.
    """
    lists = [path for form in _LISTS for path in sorted(folder.glob(form))]
    listed = [image for path in lists for image in _images_of_lists(path)]
    reader = _Reader(findings, 0 if zero_based else 1, difficult)
    files = LabelFiles(".xml", _MIRRORS, "", reader.objects)
    images = files.read_all(listed or images_by_folder(folder), findings)
    return Labels(tuple(sorted({item.name for image in images for item in image.objects})), images)


def _images_of_lists(lists: Path) -> list[Listed]:
    """The images that the lists of an ImageSets/Main name, with or without their ending."""
    folder = image_folder(lists.parent.parent)
    paths = {path.relative_to(folder).as_posix(): path for path in images_below(folder)}
    paths |= {Path(name).with_suffix("").as_posix(): path for name, path in paths.items()}
    return [
        (split, paths.get(name, folder / name))
        for split, path in split_lists(lists).items()
        for _, name in numbered_lines(path)
    ]


class _Mistake(Exception):
    """What is wrong in a file: its line, a text."""


class _Reader(NamedTuple):
    """Reads XML files; `origin` is the number of the first pixel."""

    findings: Findings
    origin: int
    difficult: str

    def objects(self, label: Path, size: tuple[int, int]) -> Iterator[LabelledObject | Problem]:
        """The objects of a file, and the first mistake."""
        try:
            root = _parse(read_bytes(label))
            if root.tag != "annotation":
                raise _Mistake(root.get(_LINE), f"<annotation> is expected (<{root.tag}> given)")
            _check_size(root, size)
            for element in root.findall("object"):
                yield from self._object(element, f"{label}:{element.get(_LINE)}")
        except _Mistake as mistake:
            line, text = mistake.args
            yield Problem(f"{label}:{line}", "", text)

    def _object(self, element: Element, place: str) -> Iterator[LabelledObject]:
        bounds = _child(element, "bndbox")
        left, top, right, bottom = (_number(bounds, corner) for corner in _CORNERS)
        if self.origin and min(left, top) < self.origin:
            self.findings.add("from_zero", place)
        hard = (element.findtext("difficult") or "").strip() == "1"
        if hard:
            self.findings.add(f"difficult_{self.difficult}", place)
        if not (hard and self.difficult == "drop"):
            box = (left - self.origin, top - self.origin, right, bottom)
            crowd = hard and self.difficult == "crowd"
            yield LabelledObject(_text(element, "name"), box, place, crowd=crowd)


def _child(element: Element, tag: str) -> Element:
    child = element.find(tag)
    if child is None:
        raise _Mistake(element.get(_LINE), f"<{element.tag}> without <{tag}>")
    return child


def _text(element: Element, tag: str) -> str:
    child = _child(element, tag)
    text = " ".join((child.text or "").split())
    if not text:
        raise _Mistake(child.get(_LINE), f"<{tag}> is empty")
    return text


def _number(element: Element, tag: str) -> float:
    text = _text(element, tag)
    try:
        return number(text)
    except ValueError as error:
        raise _Mistake(_child(element, tag).get(_LINE), f"<{tag}>: {error}") from None


def _check_size(root: Element, size: tuple[int, int]) -> None:
    """Boxes of a picture of another size would be wrong; some tools write no size, or 0."""
    element = root.find("size")
    if element is None:
        return
    given = (_number(element, "width"), _number(element, "height"))
    if all(given) and given != size:
        hint = "; is it turned by an orientation tag?" if given == size[::-1] else ""
        text = "labels of {:g} x {:g} pixels, but the image has {} x {}".format(*given, *size)
        raise _Mistake(element.get(_LINE), text + hint)


def _parse(content: bytes) -> Element:
    """The tree, its elements with their lines. No DTD, so that no entity can grow or read files."""
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag, {**attributes, _LINE: str(parser.CurrentLineNumber)})

    def refuse_dtd(*_: Any) -> None:
        raise _Mistake(parser.CurrentLineNumber, "<!DOCTYPE> is not allowed; remove it")

    parser.StartElementHandler, parser.EndElementHandler = start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse_dtd
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        text = f"not valid XML: {expat.ErrorString(error.code)}"
        raise _Mistake(error.lineno, text) from None
    except (LookupError, ValueError) as error:
        raise _Mistake(1, f"{error}; save the file as UTF-8") from None
    return builder.close()
