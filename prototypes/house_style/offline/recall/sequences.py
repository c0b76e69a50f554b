"""Users' impressions as sequences: the windows that the tower looks at."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_exchange_center.arrays import Int64Array, IntArray


@dataclass(frozen=True)
class Sequences:
    """Impressions by (user, time): user and item indices, labels; `start`, `end` [n]: bounds of each row's user."""

    users: Int64Array
    items: Int64Array
    labels: Int64Array
    item_count: int
    start: Int64Array
    end: Int64Array

    @classmethod
    def from_columns(cls, users: Int64Array, items: Int64Array, labels: IntArray, item_count: int) -> "Sequences":
        """From columns in the split's order."""
        first = np.flatnonzero(np.r_[True, users[1:] != users[:-1]][: len(users)])
        lengths = np.diff(np.r_[first, len(users)])
        start = np.repeat(first, lengths)
        return cls(users, items, labels.astype(np.int64), item_count, start, start + np.repeat(lengths, lengths))

    def windows(self, before: Int64Array, length: int) -> tuple[Tensor, Tensor]:
        """[n, length] items and liked of the last impressions before each row, the newest in the last column.

        Args:
            before: [n] rows. The state before a row never sees the row itself.
            length: of the windows.
        """
        return self._windows(before, self.start[before], length)

    def newest(self, length: int) -> tuple[Int64Array, Tensor, Tensor]:
        """The users [n], and windows that end with each one's last row."""
        last = np.unique(self.end) - 1
        return self.users[last], *self._windows(last + 1, self.start[last], length)

    def _windows(self, ends: Int64Array, starts: Int64Array, length: int) -> tuple[Tensor, Tensor]:
        rows = ends[:, None] + np.arange(-length, 0)
        present = rows >= starts[:, None]
        rows = np.maximum(rows, 0)
        items, liked = (np.where(present, column[rows], 0) for column in (self.items, self.labels))
        return torch.from_numpy(items), torch.from_numpy(liked)
