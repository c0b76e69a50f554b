"""Establishes that clients that are slow to send cost nobody else anything, on a gunicorn with two threads."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from online.main.refusals import MOST_BODY_BYTES
from online.main.whole_requests import HEAD_END, MOST_HEAD_BYTES, SECONDS, is_whole
from testkit.stack import free_ports
from tests.conftest import ROOT

APPLICATION = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
WORKER = "online.main.whole_requests.WholeRequestsWorker"
OPTIONS = ["--worker-class", WORKER, "--threads", "2", "--workers", "1", "--worker-connections", "2000"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("application")
    (folder / "echo.py").write_text(APPLICATION)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gunicorn", *OPTIONS, "--bind", f"127.0.0.1:{port}", "--pythonpath", str(folder)]
    with subprocess.Popen([*command, "--no-control-socket", "echo:app"], cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                ask(port)
                break
            except OSError:
                time.sleep(0.1)
        yield port
        server.terminate()


def ask(port: int, body: bytes = b"hello") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/", body)
        return connection.getresponse().read()
    finally:
        connection.close()


def opened(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=2 * SECONDS)
    connection.sendall(sent)
    return connection


def received_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        block = connection.recv(1000)
        assert block, received
        received += block
    return received


@pytest.mark.parametrize("sent", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"])
def test_half_sent_requests_stop_nobody_and_are_closed(port: int, sent: bytes) -> None:
    slow = [opened(port, sent) for _ in range(300)]
    began = time.monotonic()
    assert ask(port) == b"hello" and time.monotonic() - began < 1
    assert all(connection.recv(1) == b"" for connection in slow)  # closed, without a word
    assert time.monotonic() - began < 3 * SECONDS
    for connection in slow:
        connection.close()


def test_a_request_in_pieces_is_answered(port: int) -> None:
    with opened(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-") as connection:
        for piece in (b"Length: 5\r\n\r\n", b"he", b"llo"):
            time.sleep(0.05)
            connection.sendall(piece)
        received_until(connection, b"\r\n\r\nhello")


def test_a_connection_is_used_again_and_two_requests_may_come_at_once(port: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    with opened(port, request + b"hello") as connection:
        received_until(connection, b"hello")
        connection.sendall(request + b"again" + request + b"there")
        assert b"again" in received_until(connection, b"there")


def test_what_ends_before_its_end_is_refused_and_holds_no_thread(port: int) -> None:
    """A head without an end, and a body that is shorter than it says: gunicorn's own parser would wait for the rest."""
    long_head = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MOST_HEAD_BYTES // 6)
    malformed = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"
    slow = [opened(port, sent) for sent in (long_head, malformed) for _ in range(8)]
    began = time.monotonic()
    assert ask(port) == b"hello" and time.monotonic() - began < 1
    for connection in slow:
        connection.close()


def test_a_client_that_waits_to_be_told_to_go_on_is_told(port: int) -> None:
    with opened(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n") as connection:
        received_until(connection, b"100 Continue\r\n\r\n")
        connection.sendall(b"hello")
        received_until(connection, b"\r\n\r\nhello")


def test_clients_that_do_not_close_stop_nobody(port: int) -> None:
    lingering = [opened(port, b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n") for _ in range(20)]
    for connection in lingering:
        received_until(connection, b"\r\n\r\n")
    began = time.monotonic()
    assert ask(port) == b"hello" and time.monotonic() - began < 1
    for connection in lingering:
        connection.close()


def test_a_chunked_body_is_answered(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with opened(port, head + b"5\r\nhello\r\n") as connection:
        connection.sendall(b"0\r\nX: y\r\n\r\n")
        received_until(connection, b"hello")


@pytest.mark.parametrize(
    ("received", "whole"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a" + HEAD_END, True),
        (b"x" * (MOST_HEAD_BYTES + 1), True),
        (b"POST / HTTP/1.1\r\ncontent-length:3" + HEAD_END + b"ab", False),
        (b"POST / HTTP/1.1\r\nCONTENT-LENGTH: 3" + HEAD_END + b"abc", True),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999" + HEAD_END + b"a" * MOST_BODY_BYTES, False),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999" + HEAD_END + b"a" * (MOST_BODY_BYTES + 1), True),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + HEAD_END + b"1\r\na\r\n", False),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + HEAD_END + b"1\r\na\r\n0\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + HEAD_END + b"1\r\na\r\n0\r\nX: y\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + HEAD_END + b"1\r\na\r\n0\r\nX: y\r\n", False),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + HEAD_END + b"ff\r\nabc0\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + HEAD_END + b"-5\r\n", True),
    ],
)
def test_when_a_request_is_whole(received: bytes, whole: bool) -> None:
    assert is_whole(bytearray(received)) is whole
