"""Label encodings: the polygons and run lengths of COCO, the PNG files of VOC and ADE20K."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_FINENESS = 4  # contours run through pixel centres, so they are traced on an enlarged mask


def polygons(mask: Mask) -> list[list[float]]:
    """Outline a mask by polygons [x1, y1, x2, y2, ...] in pixels, edges at whole numbers.

    COCO's polygons know no holes, so a part with a hole is cut in two through the hole.
    """
    fine = mask.astype(np.uint8).repeat(_FINENESS, axis=0).repeat(_FINENESS, axis=1)
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for contour, relation in zip(contours, [] if hierarchy is None else hierarchy[0], strict=True):
        if relation[3] >= 0:  # the contour has a parent: it is a hole
            x, _, width, _ = cv2.boundingRect(contour)
            cut = (x + width // 2) // _FINENESS
            left = np.arange(mask.shape[1]) < cut
            return polygons(mask & left) + polygons(mask & ~left)
    found = []
    for contour in contours:
        corners = cv2.approxPolyDP(contour, 0.5 * _FINENESS, True)[:, 0]
        if len(corners) >= 3:
            found.append(np.round((corners + 0.5) / _FINENESS, 2).ravel().tolist())
    return found


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """Encode a mask as COCO's uncompressed RLE: lengths by columns, the first one of zeros."""
    pixels = mask.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(pixels, prepend=0)) if pixels.size else np.zeros(0, int)
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def border(mask: Mask) -> Mask:
    """The pixels on either side of a mask's edge: a line about two pixels wide."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, cross) > 0


def png(labels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """Encode labels uint8 [H, W] as PNG: with a palette [256, 3], as VOC has them, or grey.

    OpenCV writes no palettes, hence an encoder.
    """
    height, width = labels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if palette is None else 3, 0, 0, 0)
    rows = np.pad(labels, ((0, 0), (1, 0)))  # each row starts with its filter: 0, none
    chunks = [(b"IHDR", header)]
    if palette is not None:
        chunks.append((b"PLTE", palette.tobytes()))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file: length, kind, body, checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
