"""Rows of who rated which item and whether they liked it, as indices of the vocabularies."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array


@dataclass(frozen=True)
class Interactions:
    """n rows of (user_index, item_index, label), and the sizes of the two vocabularies, unknown counted."""

    users: Int64Array
    items: Int64Array
    labels: UInt8Array
    user_count: int
    item_count: int

    def select(self, rows: BoolArray) -> "Interactions":
        """Those rows."""
        return Interactions(self.users[rows], self.items[rows], self.labels[rows], self.user_count, self.item_count)

    def positives(self) -> "Interactions":
        """The positive rows."""
        return self.select(self.labels == 1)

    def matrix(self) -> sp.csr_matrix:
        """[user_count, item_count] float32, 1 where the pair occurs."""
        ones = np.ones(len(self.users), np.float32)
        matrix = sp.csr_matrix((ones, (self.users, self.items)), (self.user_count, self.item_count))
        matrix.data[:] = 1
        return matrix
