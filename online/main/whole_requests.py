"""gunicorn's threaded worker, which hands a request to a thread only once all of it has come.

gunicorn's own reads the request in the thread, and waits there for as long as a client takes: as many slow clients as
there are threads stop a worker for good. Here the loop that accepts connections also collects what they send, without
a thread, and closes those that are too slow.
"""

import re
import selectors
import time
from concurrent import futures
from contextlib import suppress
from functools import partial
from socket import socket

from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

from online.main.refusals import MOST_BODY_BYTES

SECONDS = 5.0  # from a request's first byte, or from the connection's beginning, to its last
CLOSING_THREADS = 2  # gunicorn waits up to two seconds for a client to close its side
HEAD_END, LINE_END = b"\r\n\r\n", b"\r\n"
MOST_HEAD_BYTES = 64 * 1024
BLOCK = 64 * 1024
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def is_whole(received: bytearray) -> bool:
    """Whether a request has come as a whole, or so much of it that it will be refused; from its first byte on."""
    end = received.find(HEAD_END)
    if end < 0:
        return len(received) > MOST_HEAD_BYTES
    start = end + len(HEAD_END)
    head, body = bytes(received[:start]), len(received) - start
    if CHUNKED.search(head):
        return body > MOST_BODY_BYTES or _chunks_have_ended(received[start:])
    length = LENGTH.search(head)
    return body >= min(int(length[1]) if length else 0, MOST_BODY_BYTES + 1)


def _chunks_have_ended(body: bytearray) -> bool:
    """Whether the last chunk of a chunked body has come, and the trailers behind it, or one that is malformed."""
    at = 0
    while (end := body.find(LINE_END, at)) >= 0:
        size = re.match(rb"[0-9a-fA-F]{1,8}", body[at:end])
        if not size:
            return True
        if int(size[0], 16) == 0:
            return body.startswith(LINE_END, end + len(LINE_END)) or body.find(HEAD_END, end) >= 0
        at = end + len(LINE_END) + int(size[0], 16) + len(LINE_END)
    return False


class WholeRequestsWorker(ThreadWorker):  # type: ignore[misc]
    """Collects requests in the loop; a connection is with a thread only while one is answered."""

    def init_process(self) -> None:
        """As gunicorn's own, with threads that close connections."""
        self.closing = futures.ThreadPoolExecutor(CLOSING_THREADS, thread_name_prefix="close")
        super().init_process()

    def enqueue_req(self, conn: TConn) -> None:
        """Begins to collect the request of a connection, new or kept alive."""
        if not conn.initialized:
            conn.close = partial(self.closing.submit, conn.close)  # not in the loop, which it would stop
        conn.is_awaited = False  # whether it has been told to go on with the body
        # What a client sent behind its last request was read with it.
        conn.received = bytearray(conn.parser.unreader.take_buffered() if conn.parser else b"")
        conn.timeout = time.monotonic() + SECONDS  # the same for all: they run out in the order in which they began
        conn.sock.setblocking(False)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.collect, conn))
        if is_whole(conn.received):
            self._hand_over(conn)
        else:
            self.collect(conn, conn.sock)

    def collect(self, conn: TConn, client: socket) -> None:
        """Takes what has come; a whole request goes to a thread, and a connection that has ended is closed."""
        try:
            block = client.recv(BLOCK)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        conn.received += block
        if not block:
            self._forget(conn)
            self.nr_conns -= 1
            conn.close()
        elif is_whole(conn.received):
            self._hand_over(conn)
        elif not conn.is_awaited and EXPECTS.search(conn.received) and HEAD_END in conn.received:
            conn.is_awaited = True
            with suppress(OSError):
                client.send(CONTINUE)

    def _hand_over(self, conn: TConn) -> None:
        self._forget(conn)
        conn.initialized = True
        if conn.parser is None:
            # It reads what was collected and nothing else: no thread ever waits for a client.
            conn.parser = http.get_parser(conn.cfg, iter(()), conn.client)
        conn.parser.unreader.unread(bytes(conn.received))
        super().enqueue_req(conn)

    def _forget(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)
