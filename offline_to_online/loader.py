"""What the loaders share: how long they wait for a store, how much they read back, and their worker processes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.util import Finalize
from typing import TypeVar

import numpy as np

from data_exchange_center.arrays import Int64Array
from data_exchange_center.settings import Settings

LOADER_TIMEOUT = 30.0  # seconds: a loader may wait where a request may not
USERS_OF_A_PROCESS = 20_000  # at least: a process takes as long to start as it takes to load a few thousand
LAST = -1_000_000  # priority of what a worker does when it ends

Task = TypeVar("Task")
Result = TypeVar("Result")


class LoadError(Exception):
    """A store does not hold what was loaded into it; the message names the first difference and the remedy."""

    is_expected = True


def processes_for(users: int, settings: Settings) -> int:
    """How many processes load so many users: as many as LOAD_PROCESSES, but none for a few users alone."""
    return max(1, min(settings.load_processes or len(os.sched_getaffinity(0)), users // USERS_OF_A_PROCESS))


def run_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    """The function's results in the order in which they come, computed by worker processes, or here by one.

    A worker starts as a fresh interpreter, since what this process holds, of connections and threads above all, is not
    to be shared. The first failure ends all.

    Args:
        function: of a module's top; its tasks and results, and what it raises, are pickled.
        tasks: each about as large as the next.
        processes: at most so many; with 1 everything happens in this process.

    Raises:
        LoadError: a worker process was killed.
        Exception: what the function raises.
    """
    if min(processes, len(tasks)) <= 1:
        yield from map(function, tasks)
        return
    # Spawned, not forked from a server: such a server would keep the environment of its first use.
    pool = ProcessPoolExecutor(min(processes, len(tasks)), get_context("spawn"), _end_with_parent)
    try:
        for future in as_completed([pool.submit(function, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise LoadError(
            f"one of {processes} worker processes was killed, as happens where memory runs out, and the load is not "
            "complete: set LOAD_PROCESSES to fewer, and load again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker ends with its loader, even one that is killed; it leaves the interrupt key to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    # Its tasks done, a worker just ends. The interpreter's own tidying was seen to wait for ever after a task that had
    # failed, and the loader with it.
    Finalize(None, os._exit, (0,), exitpriority=LAST)


def rows_to_check(count: int, settings: Settings) -> Int64Array:
    """Which of so many users or items are read back, ascending: all of them, or a sample of LOAD_CHECK_UP_TO.

    The sample follows from the seed, so that what it leaves out is the same each time.
    """
    if count <= settings.load_check_up_to:
        return np.arange(count)
    return np.sort(np.random.default_rng(settings.seed).choice(count, settings.load_check_up_to, replace=False))


def how_many_checked(count: int, what: str, settings: Settings) -> str:
    """Says whether all of so many were read back or, with both numbers and the setting, a sample."""
    if count <= settings.load_check_up_to:
        return "every one"
    most = settings.load_check_up_to
    return f"a sample of {most:,} of {count:,} {what} (LOAD_CHECK_UP_TO={most})"
