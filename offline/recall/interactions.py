"""Rows of who rated which item and whether they liked it, as indices of the vocabularies, and the parts of them."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.dataset import DatasetDocument
from offline.distributed import Share, rows_of_this_process

VALID_USERS = 2048


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


@dataclass(frozen=True)
class Parts:
    """The rows of each part; `training` is train and valid together, `offline` is all.

    Of several processes each has the rows of some users.
    """

    offline: Interactions
    train: Interactions
    valid: Interactions
    training: Interactions
    test: Interactions

    def counts(self) -> dict[str, int]:
        """Rows of train, valid and test in all processes."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: Share.of(len(part.users)).total for name, part in parts.items()}

    def drawn(self, seed: int) -> tuple[Interactions, Interactions]:
        """The rows of train and of valid of VALID_USERS users, by whose recall each epoch is evaluated."""
        users = np.random.default_rng(seed).permutation(self.train.user_count)[:VALID_USERS]
        train, valid = (part.select(np.isin(part.users, users)) for part in (self.train, self.valid))
        return train, valid


def read_parts(dataset: DatasetDocument) -> Parts:
    """The offline impressions as interactions; of several processes each reads those of its users."""
    rows = rows_of_this_process(catalogue.OFFLINE_IMPRESSIONS, Column.USERID)
    columns = [Column.USER_INDEX, Column.ITEM_INDEX, Column.LABEL, Column.SPLIT]
    table = catalogue.OFFLINE_IMPRESSIONS.load(columns, rows)
    users, items = (table[name].to_numpy().astype(np.int64) for name in (Column.USER_INDEX, Column.ITEM_INDEX))
    sizes, split = dataset.id_sizes, table[Column.SPLIT].to_numpy()
    offline = Interactions(users, items, table[Column.LABEL].to_numpy(), sizes[Column.USERID], sizes[Column.ITEMID])
    train, valid, test = (offline.select(split == part) for part in (Split.TRAIN, Split.VALID, Split.TEST))
    return Parts(offline, train, valid, offline.select(split != Split.TEST), test)
