"""Users' impressions as sequences, and the windows of them that a model looks at."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data_exchange_center import user_state
from data_exchange_center.arrays import BoolArray, Int64Array
from offline.distributed import Share, gathered
from offline.recall.interactions import Interactions


@dataclass(frozen=True)
class Sequences:
    """n impressions in the split's order, with the bounds of their users; of several processes each has some users.

    Attributes:
        users, items, labels: [n] user_index, item_index, 1 where positive.
        item_count: size of the items' vocabulary, unknown counted.
        start, end: [n] first row of each row's user, and the row after the last.
    """

    users: Int64Array
    items: Int64Array
    labels: Int64Array
    item_count: int
    start: Int64Array
    end: Int64Array

    @cached_property
    def is_first(self) -> BoolArray:
        """[n] whether the user had not met the item before: what recall filters is not to be predicted."""
        is_first = np.zeros(len(self.users), bool)
        is_first[np.unique(self.users * self.item_count + self.items, return_index=True)[1]] = True
        return is_first

    @cached_property
    def share(self) -> Share:
        """The n impressions among those of all processes."""
        return Share.of(len(self.users))

    @cached_property
    def all_users(self) -> tuple[Int64Array, Int64Array]:
        """The first row and the end of every user, in row numbers of all processes."""
        first, end = (np.unique(bound) + self.share.first for bound in (self.start, self.end))
        return gathered(first), gathered(end)

    @classmethod
    def of(cls, rows: Interactions) -> "Sequences":
        """The rows, which are in the split's order."""
        start = user_state.user_starts(rows.users)
        end = np.searchsorted(start, start, side="right")
        return cls(rows.users, rows.items, rows.labels.astype(np.int64), rows.item_count, start, end)

    def windows(self, before: Int64Array, length: int) -> tuple[Tensor, Tensor]:
        """[n, length] items and labels of the last impressions before each row; see user_state.sequences.

        Args:
            before: [n] rows. The state before a row never sees the row itself.
            length: of the windows.
        """
        return self._windows(self.start[before], before, length)

    def newest(self, length: int) -> tuple[Int64Array, Tensor, Tensor]:
        """The users [n], and windows that end with each one's last row."""
        last = np.unique(self.end) - 1
        return self.users[last], *self._windows(self.start[last], last + 1, length)

    def _windows(self, starts: Int64Array, ends: Int64Array, length: int) -> tuple[Tensor, Tensor]:
        items, liked = user_state.sequences(self.items, self.labels, starts, ends, length)
        return torch.from_numpy(items), torch.from_numpy(liked)
