"""How well lists of similar items find what the same people like next: queries, and Recall over them."""

from dataclasses import dataclass

import numpy as np

from data_exchange_center.arrays import BoolArray, Float64Array, Int64Array
from offline.recall.interactions import Interactions

HORIZON = 10  # of a user's next likes, so many are relevant to a like


@dataclass(frozen=True)
class Queries:
    """n likes by (user, time), each of which with its user's next HORIZON ones as what is relevant to it.

    Attributes:
        users, items: [n].
        asked: [n] whether the like is a query: its item is known, another like follows, and it is among those drawn.
    """

    users: Int64Array
    items: Int64Array
    asked: BoolArray

    @classmethod
    def of(cls, held_out: Interactions) -> "Queries":
        """The likes of a part, in the split's order."""
        likes = held_out.positives()
        followed = np.append(likes.users[1:] == likes.users[:-1], False)[: len(likes.users)]
        return cls(likes.users, likes.items, followed & (likes.items > 0))

    def drawn(self, most: int, seed: int) -> "Queries":
        """The queries of at most so many items, drawn at random."""
        items = np.random.default_rng(seed).permutation(self.query_items)[:most]
        return Queries(self.users, self.items, self.asked & np.isin(self.items, items))

    @property
    def query_items(self) -> Int64Array:
        """The distinct items that are asked for, ascending."""
        return np.unique(self.items[self.asked])

    def recall(self, lists: Int64Array, item_count: int) -> tuple[Int64Array, Float64Array]:
        """Recall of the lists, averaged over each user's queries.

        Args:
            lists: [query items, k] what is listed for each of `query_items`; 0 in empty places.
            item_count: size of the vocabulary, unknown counted.

        Returns:
            [m] the users with a query, ascending; [m] the recall of each. A relevant item that is listed for none, as
            one outside the vocabulary, was not found.
        """
        listed = np.sort((self.query_items[:, None] * item_count + lists)[lists > 0])
        rows = np.flatnonzero(self.asked)
        found, relevant = np.zeros(len(rows)), np.zeros(len(rows))
        for lag in range(1, HORIZON + 1):
            later = np.minimum(rows + lag, len(self.users) - 1)
            follows = (later == rows + lag) & (self.users[later] == self.users[rows])
            keys = self.items[rows] * item_count + self.items[later]
            places = np.minimum(np.searchsorted(listed, keys), max(len(listed) - 1, 0))
            is_listed = listed[places] == keys if len(listed) else np.zeros(len(keys), bool)
            relevant += follows
            found += follows & is_listed
        users, of_user = np.unique(self.users[rows], return_inverse=True)
        queries = np.bincount(of_user, minlength=len(users))
        return users, np.bincount(of_user, found / np.maximum(relevant, 1), len(users)) / np.maximum(queries, 1)
