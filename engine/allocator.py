"""Keep large freed blocks instead of giving them back to the system at once."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 1 << 30


def keep_large_blocks() -> bool:
    """Raise glibc's thresholds; whether it worked. Called by commands, never at import.

    By default glibc maps and unmaps every large activation, which costs a page fault per 4 KiB of
    it, at every step. Elsewhere than on Linux with glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGE) and libc.mallopt(_TRIM_THRESHOLD, _LARGE))
    except (OSError, AttributeError):
        return False
