"""A command as a process of its own, with its wall time and the most memory that it or one that it started held."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_exchange_center.settings import ROOT

POLL_SECONDS = 0.02  # between two looks at a process's memory


@dataclass(frozen=True)
class Measured:
    """A process's wall time, and the most memory that it or one that it started held."""

    seconds: float
    peak_mib: float


def run_measured(command: Sequence[str], env: Mapping[str, str] | None = None) -> Measured:
    """Runs a command in the repository's root and waits for it.

    Args:
        command: program and arguments.
        env: added to the environment.

    Raises:
        subprocess.CalledProcessError: it ended with another status than 0.
    """
    began, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(env or {})})
    while process.poll() is None:
        peak = max(peak, *map(_peak_mib, [process.pid, *_started_by(process.pid)]))
        time.sleep(POLL_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Measured(time.monotonic() - began, peak)


def _started_by(pid: int) -> list[int]:
    """The processes that a running one has started itself, as torchrun does."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    try:
        return [int(child) for file in children for child in file.read_text().split()]
    except OSError:
        return []


def _peak_mib(pid: int) -> float:
    """The most memory that a running process has held; 0 once it has ended.

    Not wait4's ru_maxrss: a child's begins with what its parent held when it was forked.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
