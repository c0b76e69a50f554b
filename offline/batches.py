"""Batches of rows for the fits whose rows know nothing of each other: from memory, or from a table read in blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from offline.distributed import Share, gathered, rank

Columns = tuple[Tensor, ...]
Batch = tuple[Columns, float]


@dataclass(frozen=True)
class Batches:
    """How a fit passes over its rows.

    Attributes:
        steps: of an epoch.
        epoch: draws the batches of one, the same in all processes. Each has the columns of the rows that this process
            holds, and their share of the batch's rows.
    """

    steps: int
    epoch: Callable[[], Iterator[Batch]]

    def to(self, device: torch.device) -> "Batches":
        """The same, moved to that device batch by batch."""
        return Batches(
            self.steps, lambda: ((tuple(c.to(device) for c in columns), share) for columns, share in self.epoch())
        )


def in_memory(columns: Sequence[Tensor], size_of: Callable[[int], int]) -> Batches:
    """Batches of all rows in random order.

    Args:
        columns: [rows held, ...] on the model's device.
        size_of: the size of a batch, from how many rows all processes hold.
    """
    share = Share.of(len(columns[0]))
    size, device = size_of(share.total), columns[0].device

    def epoch() -> Iterator[Batch]:
        for batch in torch.randperm(share.total).to(device).split(size):
            rows = share.rows(batch)
            yield tuple(column[rows] for column in columns), len(rows) / len(batch)

    return Batches(-(-share.total // size), epoch)


def from_blocks(
    read: Callable[[int], Columns], blocks: int, rows: int, held: int, size_of: Callable[[int], int]
) -> Batches:
    """Batches of rows that are never all in memory: the blocks come in random order, and a few of them are mixed.

    Of several processes each mixes its own blocks, and gives every batch an equal part of its rows.

    Args:
        read: the columns of the block of that number, [rows of the block, ...].
        blocks: how many there are.
        rows: of all of them.
        held: at most so many are mixed at a time.
        size_of: the size of a batch, from how many rows all processes have.
    """
    of_processes = gathered(np.array([rows]))
    steps = -(-int(of_processes.sum()) // size_of(int(of_processes.sum())))
    # [steps + 1, processes] rows before each step.
    before = np.arange(steps + 1)[:, None] * of_processes // steps
    first = before[:, rank()]

    def epoch() -> Iterator[Batch]:
        mixer = _Mixer(read, blocks, max(held, int(np.diff(first).max())))
        for step, count in enumerate(np.diff(first)):
            yield mixer.take(int(count)), float(count / (before[step + 1] - before[step]).sum())

    return Batches(steps, epoch)


class _Mixer:
    """Hands out the rows of an epoch: at random from those in memory, and reads on when these are too few."""

    def __init__(self, read: Callable[[int], Columns], blocks: int, held: int) -> None:
        self._read, self._held = read, held
        self._waiting = torch.randperm(blocks).tolist()
        self._rest: Columns | None = None  # of a block of which some rows did not fit
        self._buffer: Columns = ()
        self._order = torch.empty(0, dtype=torch.int64)  # of the rows in the buffer that are still to come

    def take(self, count: int) -> Columns:
        """So many rows, never more than are held."""
        if len(self._order) < count or not self._buffer:
            self._fill()
        rows, self._order = self._order[:count], self._order[count:]
        return tuple(column[rows] for column in self._buffer)

    def _fill(self) -> None:
        left = [column[self._order] for column in self._buffer]
        filled = len(self._order)
        while filled < self._held and (self._waiting or self._rest is not None):
            block = self._read(self._waiting.pop()) if self._rest is None else self._rest
            taken = min(len(block[0]), self._held - filled)
            self._buffer = self._buffer or tuple(part.new_empty(self._held, *part.shape[1:]) for part in block)
            for column, part in zip(self._buffer, block, strict=True):
                column[filled : filled + taken] = part[:taken]
            self._rest = tuple(part[taken:] for part in block) if taken < len(block[0]) else None
            filled += taken
        for column, part in zip(self._buffer, left, strict=False):
            column[: len(part)] = part
        self._order = torch.randperm(filled)
