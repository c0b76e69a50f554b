"""How a stage that fits models runs as a script: alone or on torchrun's processes, and with checkpoints."""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from data_exchange_center.artefact import Artefacts
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.checkpoints import checkpoints_of
from offline.distributed import process_group

SECONDS_TO_TELL = 20  # more than one process may be behind another
LARGEST_KEPT_BLOCK = 256 << 20  # bytes: what a step or an evaluation takes, but no table of a large data set
MOST_KEPT = 1 << 30  # bytes


def run_fitting_stage(main: Callable[[], None], file: str, reads: Artefacts) -> None:
    """As `run_stage`.

    Args:
        main: is run in every process; what it writes and prints, it does in the first one alone.
        file: the stage's own.
        reads: its READS.
    """
    module = ".".join(Path(file).resolve().relative_to(ROOT).with_suffix("").parts)

    def fit() -> None:
        try:
            if not Settings().training_memory_mib:  # otherwise memory counts for more than time
                keep_freed_memory()
            with process_group(), checkpoints_of(module, reads):
                main()
        except Exception as error:
            if getattr(error, "is_expected", False):
                _let_one_process_tell()
            raise

    run_stage(fit)


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed, from 2.35 on; another C library, or an older one, does as it always does.

    Each training step frees what the next one takes again. Returned to the system, it would come back page by page,
    each filled with zeros: at 38,830 items up to a third of the time of the FM's fit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
    if mallopt and mallopt(mmap_threshold, LARGEST_KEPT_BLOCK):
        mallopt(trim_threshold, MOST_KEPT)


def _let_one_process_tell() -> None:
    """An expected error's sentence is printed once: by the first process, and not before torchrun has given up."""
    restarts = [int(os.environ.get(f"TORCHELASTIC_{name}", 0)) for name in ("RESTART_COUNT", "MAX_RESTARTS")]
    if restarts[0] < restarts[1]:
        sys.exit(1)
    if int(os.environ.get("RANK", 0)):
        time.sleep(SECONDS_TO_TELL)  # once the first process has ended, torchrun ends the others
