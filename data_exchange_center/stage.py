"""How a stage is run: as a script, an expected error shown as its sentence, and as a process that is measured."""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from data_exchange_center.catalogue import ArtefactError
from data_exchange_center.settings import ROOT

POLL_SECONDS = 0.02  # between two looks at a process's memory


@dataclass(frozen=True)
class Measured:
    """A process's wall time and the most memory that it held."""

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
        peak = max(peak, _peak_mib(process.pid))
        time.sleep(POLL_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Measured(time.monotonic() - began, peak)


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


def run_stage(main: Callable[[], None]) -> None:
    """Runs `main`; errors that name their remedy end the process with status 1 and one line on stderr.

    Expected errors are ArtefactError, bad settings, and any exception class that says so with `is_expected = True`.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for noisy in ("elastic_transport.transport", "httpx", "feast", "onnxscript", "torch.onnx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
    except ValidationError as error:
        for fault in error.errors():
            print(f"error: setting {'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if isinstance(error, ArtefactError) or getattr(error, "is_expected", False):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        raise
