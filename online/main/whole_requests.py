"""gunicorn's threaded worker, which hands a request to a thread only once all of it has come.

gunicorn's own reads the request in the thread, and waits there for as long as a client takes: as many slow clients as
there are threads stop a worker for good. Here the loop that accepts connections also collects what they send, without
a thread, and closes those that are too slow.
"""

import re
import selectors
import time
from functools import partial
from socket import socket

from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

from online.main.refusals import MOST_BODY_BYTES

SECONDS = 5.0  # from a request's first byte, or from the connection's beginning, to its last
HEAD_END = b"\r\n\r\n"
MOST_HEAD_BYTES = 64 * 1024  # beyond it the thread takes over: gunicorn's own limits refuse the request
BLOCK = 64 * 1024
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


def is_whole(received: bytearray) -> bool:
    """Whether a request has come as a whole, or so much of it that it will be refused; from its first byte on."""
    end = received.find(HEAD_END)
    if end < 0:
        return len(received) > MOST_HEAD_BYTES
    head, body = bytes(received[: end + len(HEAD_END)]), len(received) - end - len(HEAD_END)
    if CHUNKED.search(head):
        return received.endswith(b"0\r\n\r\n") or body > MOST_BODY_BYTES
    length = LENGTH.search(head)
    return body >= min(int(length[1]) if length else 0, MOST_BODY_BYTES + 1)


class WholeRequestsWorker(ThreadWorker):  # type: ignore[misc]
    """Collects requests in the loop; a connection is with a thread only while one is answered."""

    def enqueue_req(self, conn: TConn) -> None:
        """Begins to collect the request of a connection, new or kept alive."""
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

    def _hand_over(self, conn: TConn) -> None:
        self._forget(conn)
        conn.initialized = conn.data_ready = True
        if conn.parser is None:
            conn.parser = http.get_parser(conn.cfg, conn.sock, conn.client)
        conn.parser.unreader.unread(bytes(conn.received))
        super().enqueue_req(conn)

    def _forget(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)
