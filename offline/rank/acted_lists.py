"""What users saw of the lists that they acted on, and which of their impressions came of one.

Who acts on a list chooses among what it shows. Such an impression says what the user prefers to the other items seen,
and nothing of the items that were not shown: counted like one that the user found alone, it would teach a model that
whatever its predecessor put at the top belongs there.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_exchange_center.arrays import BoolArray, Int64Array
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.user_state import rows_between
from offline.recall.sequences import Sequences

PASSED_OVER = -1


@dataclass(frozen=True)
class ActedLists:
    """The l lists that some of n impressions answer, by the row of the first impression that does.

    Attributes:
        answers: [n] whether the impression answers a list.
        rows: [l] of each list the first row that answers it, ascending.
        start, end: [l] of each list the first of its seen items, and the one after the last.
        items: [seen] item_index.
        acted: [seen] the row that answers with the item, n where it is none of these; PASSED_OVER where the user did
            not act on the item.
        liked: [seen] whether the user acted on the item, and liked it.
    """

    answers: BoolArray
    rows: Int64Array
    start: Int64Array
    end: Int64Array
    items: Int64Array
    acted: Int64Array
    liked: BoolArray

    @classmethod
    def of(cls, seen: pa.Table, sequences: Sequences) -> "ActedLists":
        """The lists whose users are among these impressions.

        Args:
            seen: catalogue entry ACTED_LISTS.
            sequences: the n impressions, of several processes those of some users.
        """
        number, users, items, acted = (
            seen[name].to_numpy().astype(np.int64)
            for name in (LogColumn.LIST, Column.USER_INDEX, Column.ITEM_INDEX, LogColumn.ACTED)
        )
        count = len(sequences.items)
        pairs, of_seen = (
            user * sequences.item_count + item for user, item in ((sequences.users, sequences.items), (users, items))
        )
        by_pair = np.argsort(pairs, kind="stable")
        last = np.searchsorted(pairs, of_seen, side="right", sorter=by_pair) - 1  # a pair's last impression counts
        rows = np.append(by_pair, count)[last]
        rows = np.where(np.append(pairs, -1)[rows] == of_seen, rows, count)
        rows = np.where(acted == 1, rows, PASSED_OVER)
        answers = np.zeros(count + 1, bool)
        answers[rows[acted == 1]] = True

        first = np.full(number.max(initial=-1) + 1, count)
        np.minimum.at(first, number[acted == 1], rows[acted == 1])
        order = np.argsort(first, kind="stable")
        order = order[first[order] < count]
        start, end = (np.searchsorted(number, order, side=side) for side in ("left", "right"))
        liked = (rows >= 0) & (np.append(sequences.labels, 0)[rows] == 1)
        return cls(answers[:-1], first[order], start, end, items, rows, liked)

    def within(self, block: BoolArray, most: int) -> Int64Array:
        """At most so many of the lists whose row is of the block, evenly apart.

        Args:
            block: [n] whether the impression belongs to it.
            most: how many.
        """
        found = np.flatnonzero(block[self.rows])
        return found[:: max(-(-len(found) // most), 1)]

    def seen(self, lists: Int64Array, until: Int64Array) -> tuple[Int64Array, BoolArray]:
        """[b, most seen] items of those lists, 0 where a list has no more, and whether the user liked them.

        Args:
            lists: b of them.
            until: [b] a row; what was acted on from there on is left out, as what is not known yet.
        """
        which, places = rows_between(self.start[lists], self.end[lists])
        columns = places - self.start[lists][which]
        items = np.zeros((len(lists), columns.max(initial=-1) + 1), np.int64)
        liked = np.zeros(items.shape, bool)
        is_known = self.acted[places] < until[which]
        items[which, columns] = np.where(is_known, self.items[places], 0)
        liked[which, columns] = is_known & self.liked[places]
        return items, liked
