"""What processes hold in memory."""

from collections.abc import Iterable
from contextlib import suppress

import psutil

MIB = 1 << 20


def held_mib(processes: Iterable[psutil.Process]) -> float:
    """MiB that the processes hold together, each page divided by how many share it (PSS); an ended one holds none."""
    held = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            held += process.memory_full_info().pss
    return held / MIB
