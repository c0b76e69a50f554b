"""10,000 bad and odd requests against the running server: no 5xx, no stack trace, no growth of memory.

    python -m benchmarks.speed.odd_requests          (while `make run` is up)

Half are made by schemathesis from /openapi.json; half are raw bytes on the socket, some of them damaged requests. Ends
with status 1 at the first fault.
"""

import random
import re
import socket
import subprocess
import sys
from pathlib import Path

from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from services.stack import WEB, recorder_of

REQUESTS = 10_000
GROWTH = 1.15  # the workers' memory may be so many times as large afterwards and still count as flat
WELL_FORMED = (
    b"GET /recommend?userid=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b'POST /recommend HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"userid": 123}',
    b"POST /events HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 51\r\n\r\n"
    b'{"userid":1,"itemid":1,"rating":3,"ts":1}',
)


def damaged(random_: random.Random) -> bytes:
    """Random bytes, or a request with some bytes replaced, dropped or doubled."""
    if random_.random() < 0.3:
        return random_.randbytes(random_.randrange(1, 400))
    content = bytearray(random_.choice(WELL_FORMED))
    for _ in range(random_.randrange(1, 6)):
        at = random_.randrange(len(content))
        content[at : at + random_.randrange(3)] = random_.randbytes(random_.randrange(4))
    return bytes(content)


def send(settings: Settings, content: bytes) -> bytes:
    """The bytes that the server sends until it closes."""
    received = b""
    with socket.create_connection((settings.web_host, settings.web_port), timeout=5) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                received += part
        except OSError:
            pass  # the server has closed the connection, which is a proper response to junk
    return received


def memory(settings: Settings) -> int:
    """Bytes that the web server and its workers hold."""
    family = recorder_of(settings).family(WEB)
    assert family, "start the server with `make serve`"
    return sum(member.memory_info().rss for member in family)


def from_the_contract(settings: Settings, count: int) -> int:
    """Runs schemathesis until `count` requests were made; returns how many.

    Raises:
        AssertionError: it found a fault.
    """
    made, seed = 0, 0
    while made < count:
        seed += 1
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"http://{settings.web_host}:{settings.web_port}/openapi.json",
                "--phases=fuzzing",
                "--max-examples=300",
                f"--seed={seed}",
                "--generation-database=none",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(done.stdout[-3000:])
        found = re.search(r"(\d+) generated", done.stdout)
        assert found, done.stdout[-1000:]
        made += int(found[1])
    return made


def main() -> None:
    """Sends raw bytes, then what the contract allows, and compares the memory before and after."""
    settings, random_ = Settings(), random.Random(0)
    for content in (*WELL_FORMED, *(damaged(random_) for _ in range(500))):
        send(settings, content)  # what the first requests allocate does not count as growth
    before = memory(settings)
    for _ in range(REQUESTS // 2):
        content = damaged(random_)
        received = send(settings, content)
        if b"Traceback" in received or re.match(rb"HTTP/1.\d 5", received):
            raise AssertionError(f"the response to {content!r} is {received[:300]!r}")
    made = from_the_contract(settings, REQUESTS // 2)
    after = memory(settings)
    print(f"{REQUESTS // 2:,} damaged and {made:,} generated requests: no 5xx, no stack trace")
    print(f"memory of the web server {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    assert after < before * GROWTH, "the memory grows"


if __name__ == "__main__":
    run_stage(main)
