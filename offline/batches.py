"""Batches of rows for the fits whose rows know nothing of each other: from memory, or from a table read in blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offline.distributed import Share

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
