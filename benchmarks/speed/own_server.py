"""A server that a benchmark starts for itself, and stops at its end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from data_exchange_center.settings import ROOT

LOOK_SECONDS = 0.1  # between two questions whether it is up


@contextmanager
def running(
    module: str,
    env: Mapping[str, str],
    is_up: Callable[[], bool],
    seconds: float,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[None]:
    """Runs a module as a script of its own within the block, which begins when the server is up.

    Args:
        module: the server's.
        env: added to this process's environment.
        is_up: asked again and again.
        seconds: in which it must be.
        output: where its messages go.

    Raises:
        RuntimeError: it does not start.
    """
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + seconds
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not start: run it to see why.")
            time.sleep(LOOK_SECONDS)
        yield
    finally:
        process.terminate()
        process.wait()
