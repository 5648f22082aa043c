"""Fetching weights from a server on this machine: what is kept, what is refused, and who downloads."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from config.errors import UserError
from cvnets.weights import fetch as fetching
from cvnets.weights.fetch import cache_folder, fetch
from cvnets.weights.zoo import find

CONTENT = bytes(range(256)) * 5000  # 1.28 MB, more than one chunk
ROOT = Path(__file__).resolve().parents[3]
WAIT = 60  # seconds until a test gives up


class Server(ThreadingHTTPServer):
    """Serves `content` as `answer` says, and counts the requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.answer = CONTENT, "whole"
        self.requests = 0
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/files/net.pt"

    def handle_error(self, request, client_address):
        """The other side broke off, as tests make it do."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self):
        content, answer = self.server.content, self.server.answer
        self.server.requests += 1
        self.server.asked.set()
        self.close_connection = True
        if answer == "silent":
            self.server.go_on.wait(WAIT)
            return
        self.send_response({"missing": 404, "broken": 500}.get(answer, 200))
        if answer == "page":
            self.send_header("Content-Type", "text/html; charset=utf-8")
        if answer == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif answer != "no length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if answer == "chunked":
            self.wfile.write(b"400\r\n" + content[:1000])  # and then nothing of 1024 bytes
        elif answer == "truncated":
            self.wfile.write(content[: len(content) // 2])
        else:
            half = len(content) // 2
            self.wfile.write(content[:half])
            if answer == "halting":
                self.wfile.flush()
                self.server.go_on.wait(WAIT)
            self.wfile.write(content[half:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.go_on.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no proxy between."""
    monkeypatch.setenv("CVNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def named(server, monkeypatch):
    """`mobilevit_small`, published on the server of the test; with other changes of its record."""

    def publish(**changes):
        weights = find("mobilevit_small").model_copy(update={"url": server.url, **changes})
        monkeypatch.setattr(fetching, "find", lambda name: weights)
        return weights

    return publish


def refusal(name_or_url) -> str:
    with pytest.raises(UserError) as error:
        fetch(name_or_url)
    assert error.value.lines() == [str(error.value)]  # one line
    return str(error.value)


def visible(folder) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def temporary(folder) -> list[Path]:
    return list(folder.glob(".*.tmp"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- what is kept --------------------------------------------------------------------------------


def test_weights_are_fetched_once_and_kept_whole(server, named, cache):
    named()
    path = fetch("mobilevit_small")
    assert path == cache / "mobilevit_small.pt"
    assert path.read_bytes() == CONTENT
    assert visible(cache) == {"mobilevit_small.pt", "mobilevit_small.pt.sha256"}
    assert temporary(cache) == []
    assert fetch("mobilevit_small") == path
    assert server.requests == 1


def test_the_record_is_one_that_sha256sum_checks(named, cache):
    named()
    fetch("mobilevit_small")
    record = (cache / "mobilevit_small.pt.sha256").read_text()
    assert record == f"{sha256(CONTENT)}  mobilevit_small.pt\n"


def test_any_address_is_fetched_to_a_name_of_its_own(server, cache):
    url = f"{server.url}?version=2"
    path = fetch(url)
    assert path == cache / f"net-{sha256(url.encode())[:12]}.pt"
    assert fetch(server.url) != path
    assert fetch(url) == path
    assert server.requests == 2


def test_an_address_without_a_file_name_is_fetched_too(server):
    url = server.url.replace("files/net.pt", "")
    assert fetch(url).name == f"weights-{sha256(url.encode())[:12]}"


def test_an_address_of_the_table_finds_the_named_file(cache, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)  # nothing is asked for
    cache.mkdir()
    (cache / "mobilevit_small.pt").write_bytes(CONTENT)
    assert fetch(find("mobilevit_small").url) == cache / "mobilevit_small.pt"


def test_a_body_without_announced_length_is_accepted(server):
    server.answer = "no length"
    assert fetch(server.url).read_bytes() == CONTENT


def test_the_licence_is_logged_before_the_download_only(named, caplog):
    licence = named(note="of an odd kind").licence
    fetch("mobilevit_small")
    (line,) = [r for r in caplog.records if licence in r.getMessage()]
    assert line.levelno == logging.WARNING  # seen without any set-up of logging
    assert "of an odd kind" in line.getMessage()
    caplog.clear()
    fetch("mobilevit_small")
    assert caplog.records == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_the_progress_bar_is_for_terminals(stream, shown, named, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as some CI systems do; rich then draws in files, too
    monkeypatch.setattr(sys, "stderr", stream())
    named()
    fetch("mobilevit_small")
    assert ("mobilevit_small" in sys.stderr.getvalue()) == shown
    assert bool(re.search(r"1\.3/1\.3 MB", sys.stderr.getvalue())) == shown


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"CVNETS_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"CVNETS_CACHE": "~/b"}, "/users/me/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/cvnets"),
        ({"XDG_CACHE_HOME": "relative"}, "/users/me/.cache/cvnets"),
        ({"XDG_CACHE_HOME": "", "CVNETS_CACHE": ""}, "/users/me/.cache/cvnets"),
        ({}, "/users/me/.cache/cvnets"),
    ],
)
def test_where_the_cache_is(variables, folder, monkeypatch):
    for name in ("CVNETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/users/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("missing", "the server answers 404 Not Found"),
        ("broken", "the server answers 500 Internal Server Error"),
        ("truncated", "only 640,000 of 1,280,000 bytes came"),
        ("chunked", "IncompleteRead"),
        ("page", "the server sends a web page, no weights"),
        ("silent", "no answer within 0 s"),
    ],
)
def test_what_a_server_does_wrong_leaves_nothing(answer, reason, server, named, cache, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3 if answer == "silent" else WAIT)
    named()
    server.answer = answer
    message = refusal("mobilevit_small")
    assert message.startswith("mobilevit_small: cannot be fetched (")
    assert reason in message
    assert f"put the file from {server.url} at {cache / 'mobilevit_small.pt'}" in message
    assert visible(cache) == set()
    assert temporary(cache) == []
    server.answer = "whole"
    assert fetch("mobilevit_small").read_bytes() == CONTENT


def test_without_a_network_the_message_says_what_to_put_where(cache):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/net.pt"
    message = refusal(url)
    path = cache / f"net-{sha256(url.encode())[:12]}.pt"
    assert message.startswith("net.pt: cannot be fetched (Connection refused)")
    assert message.endswith(f"put the file from {url} at {path}")
    path.write_bytes(CONTENT)
    assert fetch(url) == path


def test_a_host_that_does_not_exist(monkeypatch):
    def unknown(*args, **kwargs):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    message = refusal("https://no-such-host.invalid/net.pt")
    assert message.startswith("net.pt: cannot be fetched (Name or service not known)")


@pytest.mark.parametrize(
    "url", ["ftp://host/net.pt", "file:///etc/passwd", "http://", "https:///net.pt"]
)
def test_other_addresses_are_refused(url):
    assert refusal(url) == f"{url}: only http:// and https:// addresses can be fetched"


@pytest.mark.parametrize("url", ["http://[::1/a.pt", "http://host:x/a.pt", "http://hóst..x/ü.pt"])
def test_addresses_that_are_none_are_refused(url):
    assert refusal(url).startswith("a.pt" if "ü" not in url else "ü.pt")


def test_an_unknown_name_lists_near_ones():
    assert refusal("mobilevit_smal").startswith(
        "no weights are called 'mobilevit_smal' - did you mean mobilevit_small"
    )


def test_another_file_than_the_table_says_is_refused(server, named, cache):
    named(sha256=sha256(b"the right one"))
    message = refusal("mobilevit_small")
    assert f"{server.url} gives another file than expected" in message
    assert sha256(CONTENT) in message and sha256(b"the right one") in message
    assert visible(cache) == set()
    assert temporary(cache) == []
    named(sha256=sha256(CONTENT))
    assert fetch("mobilevit_small").read_bytes() == CONTENT


def test_a_damaged_file_is_not_used_but_fetched_anew(server, named, cache, caplog):
    named()
    path = fetch("mobilevit_small")
    path.write_bytes(CONTENT[:-1] + b"x")
    assert fetch("mobilevit_small").read_bytes() == CONTENT
    assert server.requests == 2
    assert f"{path}: damaged or changed" in caplog.text
    path.write_bytes(b"")
    server.answer = "missing"
    assert "404" in refusal("mobilevit_small")


def test_a_file_that_was_published_anew_is_not_taken_silently(server, named, cache):
    named()
    path = fetch("mobilevit_small")
    path.unlink()
    server.content = CONTENT[::-1]
    message = refusal("mobilevit_small")
    record = cache / "mobilevit_small.pt.sha256"
    assert message.endswith(f"or delete {record} if it was published anew")
    assert not path.exists()
    record.unlink()
    assert fetch("mobilevit_small").read_bytes() == CONTENT[::-1]


def test_weights_without_an_address_are_put_there_by_the_user(cache, caplog):
    path = cache / "mobilevit_v3_small.pt"
    message = refusal("mobilevit_v3_small")
    assert f"the release page v1.0.0 of the MobileViTv3 repository and put it at {path}" in message
    assert "non-commercial" in message
    assert cache.is_dir()  # so that it can be put there
    path.write_bytes(CONTENT)
    assert fetch("mobilevit_v3_small") == path
    path.write_bytes(CONTENT[:-1])
    assert "put it at" in refusal("mobilevit_v3_small")
    assert f"{path}: damaged or changed" in caplog.text


# --- the disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or set CVNETS_CACHE"),
        (errno.EDQUOT, "the disk is full; free some space, or set CVNETS_CACHE"),
        (errno.EACCES, "Permission denied; make it accessible, or set CVNETS_CACHE"),
    ],
)
def test_a_disk_that_does_not_take_the_file(number, reason, server, named, cache, monkeypatch):
    def fail(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fail)
    named()
    message = refusal("mobilevit_small")
    path = cache / "mobilevit_small.pt"
    assert f"mobilevit_small: cannot keep {server.url} at {path}: {reason}" in message
    assert visible(cache) == set()
    assert temporary(cache) == []


def test_an_interrupted_download_leaves_nothing(named, cache, monkeypatch):
    def interrupt(file):
        raise KeyboardInterrupt

    named()
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("mobilevit_small")
    assert visible(cache) == set()
    assert temporary(cache) == []


def test_a_cache_folder_that_cannot_be(cache, named):
    cache.write_text("a file in its place")
    named()
    assert f"at {cache / 'mobilevit_small.pt'}: " in refusal("mobilevit_small")


def test_no_home_folder(monkeypatch):
    def lost():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CVNETS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lost)
    assert "set CVNETS_CACHE to a folder" in refusal("mobilevit_small")


def test_a_shared_cache_may_be_read_only(named, cache, monkeypatch):
    def fail(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache.mkdir()
    (cache / "mobilevit_small.pt").write_bytes(CONTENT)
    monkeypatch.setattr("os.replace", fail)
    named()
    assert fetch("mobilevit_small").read_bytes() == CONTENT
    assert visible(cache) == {"mobilevit_small.pt"}
    assert temporary(cache) == []


def test_a_file_system_without_locks_does_no_harm(named, monkeypatch):
    def fail(file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fetching, "_take", fail)
    named()
    assert fetch("mobilevit_small").read_bytes() == CONTENT


# --- several processes ---------------------------------------------------------------------------


@pytest.fixture
def another_process(server):
    """Another process that fetches the address of the server, and has begun to."""
    code = f"from cvnets.weights.fetch import fetch; print(fetch({server.url!r}))"
    server.answer = "halting"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.asked.wait(WAIT), process.communicate()
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def waiting():
    """Is set when this process has said that it waits."""
    said = threading.Event()

    class Ears(logging.Handler):
        def emit(self, record):
            if "waiting for another process" in record.getMessage():
                said.set()

    ears = Ears()
    fetching.log.addHandler(ears)
    level = fetching.log.level
    fetching.log.setLevel(logging.INFO)
    yield said
    fetching.log.setLevel(level)
    fetching.log.removeHandler(ears)


@pytest.fixture
def fetched_here(server, another_process, waiting):
    """The result of fetching in this process, which has begun to wait for the other one."""
    results = []
    thread = threading.Thread(target=lambda: results.append(fetch(server.url)))
    thread.start()
    assert waiting.wait(WAIT)

    def result():
        thread.join(WAIT)
        return results[0]

    return result


def test_of_two_processes_one_downloads(server, another_process, fetched_here, cache, caplog):
    server.go_on.set()
    path = fetched_here()
    assert path.read_bytes() == CONTENT
    output, said = another_process.communicate(timeout=WAIT)
    assert output.strip() == str(path)
    assert "its licence is not known here" in said  # on stderr, without any set-up of logging
    assert "licence" not in caplog.text
    assert server.requests == 1
    assert temporary(cache) == []


def test_a_process_that_is_killed_leaves_nothing_that_is_taken_for_whole(
    server, another_process, fetched_here, cache
):
    assert visible(cache) == set()
    (left,) = temporary(cache)
    server.answer = "whole"
    another_process.kill()  # kill -9 while it holds the lock
    path = fetched_here()
    assert path.read_bytes() == CONTENT
    assert server.requests == 2
    assert temporary(cache) == [left]  # fresh: it could belong to a process on another machine
    path.unlink()
    os.utime(left, (0, 0))
    fetch(server.url)
    assert temporary(cache) == []
