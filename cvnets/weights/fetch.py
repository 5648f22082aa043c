"""Fetching weights into a cache: once per machine, whole or not at all, verified at every use."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from config.errors import UserError
from cvnets.weights.zoo import NamedWeights, find, find_address

if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20  # bytes
LEFTOVER = 3600.0  # seconds; a download that is alive writes far more often
LOCKED = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # what taking a lock says while it is held

log = logging.getLogger(__name__)


def fetch(name_or_url: str) -> Path:
    """The cached file of named weights or of an http(s) address, downloaded if it is not there.

    The file is checked against the sha256 of the table, else against the one that was recorded
    at its first use in `<file>.sha256`; a file that does not agree is fetched anew. Of several
    processes one downloads and the others wait. UserError in one line that says what to put where
    if the name is unknown, the file cannot be had or is not the expected one, or cannot be stored.
    """
    wanted = _wanted(name_or_url)
    path = wanted.path
    try:
        if not _is_whole(wanted):
            path.parent.mkdir(parents=True, exist_ok=True)
            if wanted.url is None:
                raise UserError(
                    f"{wanted.name}: has no address of its own: take the file from the "
                    f"{wanted.manual} and put it at {path}; {wanted.terms}"
                )
            with _lock(path):
                if not _is_whole(wanted):  # another process may have fetched it meanwhile
                    _download(wanted, wanted.url)
    except OSError as error:  # of the disk; those of the network were dealt with where they arise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or error
        raise UserError(
            f"{wanted.name}: cannot keep {wanted.url or 'the file'} at {path}: {reason}; "
            f"{'free some space' if full else 'make it accessible'}, "
            f"or set CVNETS_CACHE to another folder"
        ) from None
    return path


def cache_folder() -> Path:
    """Where fetched weights are kept: CVNETS_CACHE, else cvnets/ in the user's cache folder."""
    try:
        if given := os.environ.get("CVNETS_CACHE"):
            return Path(given).expanduser().absolute()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():  # the standard says to ignore a relative one
            base = Path.home() / ".cache"
    except RuntimeError:
        raise UserError(
            "the home folder is not known: set CVNETS_CACHE to a folder for fetched weights"
        ) from None
    return base / "cvnets"


# --- what is asked for ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    name: str
    path: Path
    url: str | None
    manual: str | None = None
    sha256: str | None = None
    terms: str = "its licence is not known here"

    @property
    def record(self) -> Path:
        """The file that keeps the checksum."""
        return self.path.with_name(f"{self.path.name}.sha256")

    def expected(self) -> str | None:
        """The checksum that the content must have, as far as it is known."""
        if self.sha256 is None and self.record.is_file():
            return self.record.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
        return self.sha256


def _wanted(name_or_url: str) -> _Wanted:
    if "://" not in name_or_url:
        return _named(find(name_or_url))
    if named := find_address(name_or_url):
        return _named(named)
    if not re.match(r"(?i)https?://[^/]", name_or_url):
        raise UserError(f"{name_or_url}: only http:// and https:// addresses can be fetched")
    *_, behind_host = re.split("[?#]", name_or_url)[0].partition("://")[2].partition("/")
    last = Path(behind_host)
    stem = re.sub(r"[^\w.-]", "_", last.stem)[:100] or "weights"
    key = hashlib.sha256(name_or_url.encode()).hexdigest()[:12]
    suffix = last.suffix if re.fullmatch(r"\.\w{1,16}", last.suffix) else ""
    return _Wanted(stem + suffix, cache_folder() / f"{stem}-{key}{suffix}", name_or_url)


def _named(weights: NamedWeights) -> _Wanted:
    return _Wanted(
        name=weights.name,
        path=cache_folder() / f"{weights.name}.pt",
        url=weights.url,
        manual=weights.manual,
        sha256=weights.sha256,
        terms="; ".join(text for text in (weights.licence, weights.note) if text),
    )


# --- what is in the cache ------------------------------------------------------------------------


def _is_whole(wanted: _Wanted) -> bool:
    """Whether the cached file is there and has the content that it had at first."""
    if not wanted.path.is_file():
        return False
    digest = hashlib.sha256()
    with open(wanted.path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    found, expected = digest.hexdigest(), wanted.expected()
    if expected is None:  # put there by hand
        with suppress(OSError):  # a shared cache may be read-only
            _write_record(wanted, found)
    elif found != expected:
        log.warning(
            f"{wanted.path}: damaged or changed (its sha256 is {found}, not {expected}), so it is not "
            f"used; delete {wanted.record} if the change is meant"
        )
        return False
    return True


def _write_record(wanted: _Wanted, digest: str) -> None:
    with _replacing(wanted.record) as file:
        file.write(f"{digest}  {wanted.path.name}\n".encode())  # as sha256sum writes it


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well, and vanishes otherwise."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file in the cache; the kernel frees it when its holder dies, however.

    Where the file system has no locks, each process downloads for itself, which does no harm.
    """
    with open(path.with_name(f".{path.name}.lock"), "ab") as file:
        if not _taken(file.fileno()):
            log.info("waiting for another process that fetches %s", path)
            while not _taken(file.fileno()):
                time.sleep(0.1)
        yield


def _taken(file: int) -> bool:
    try:
        _take(file)
    except OSError as error:
        return error.errno not in LOCKED
    return True


# --- downloading ---------------------------------------------------------------------------------


def _download(wanted: _Wanted, url: str) -> None:
    """Store the content of `url`, if it is whole and the expected one, and its checksum."""
    # a warning, because the terms must be seen on every rank and without any set-up of logging
    log.warning("%s: %s; fetching %s", wanted.name, wanted.terms, url)
    for left in wanted.path.parent.glob(f".{wanted.path.name}.*.tmp"):  # by a killed process
        if time.time() - left.stat().st_mtime > LEFTOVER:
            left.unlink(missing_ok=True)
    digest = hashlib.sha256()
    with _replacing(wanted.path) as file, closing(_body(wanted, url)) as chunks:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
        found, expected = digest.hexdigest(), wanted.expected()
        if expected not in (None, found):
            raise UserError(
                f"{wanted.name}: {url} gives another file than expected (its sha256 is {found}, not "
                f"{expected}); put the right one at {wanted.path}, or delete {wanted.record} if "
                f"it was published anew"
            )
        _write_record(wanted, found)  # before the file, which then never stands there without


def _body(wanted: _Wanted, url: str) -> Generator[bytes]:
    """The bytes at `url`, with a progress bar on a terminal. UserError unless all of them come."""
    received = 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "cvnets"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response, _progress() as bar:
            if response.headers.get_content_type() == "text/html":
                raise _not_had(wanted, "the server sends a web page, no weights")
            total = response.length
            task = bar.add_task(wanted.name, total=total)
            while chunk := response.read(CHUNK):
                received += len(chunk)
                bar.update(task, completed=received)
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise _not_had(wanted, f"the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last: no address
        raise _not_had(wanted, _reason(error)) from None
    if total not in (None, received):
        raise _not_had(wanted, f"only {received:,} of {total:,} bytes came")


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    visible = sys.stderr.isatty()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not visible)


def _not_had(wanted: _Wanted, reason: str) -> UserError:
    return UserError(
        f"{wanted.name}: cannot be fetched ({reason}); try again, or put the file from "
        f"{wanted.url} at {wanted.path}"
    )


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    return str(getattr(cause, "strerror", None) or cause)
