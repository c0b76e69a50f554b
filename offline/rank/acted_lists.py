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
from offline.distributed import Share
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
        rows = np.where(acted == 1, _rows_of(users, items, sequences), PASSED_OVER)
        count = len(sequences.items)
        is_found = (rows >= 0) & (rows < count)
        answers = np.zeros(count, bool)
        answers[rows[is_found]] = True
        liked = np.zeros(len(rows), bool)
        liked[is_found] = sequences.labels[rows[is_found]] == 1

        first = np.full(number.max(initial=-1) + 1, count)
        np.minimum.at(first, number[is_found], rows[is_found])
        order = np.argsort(first, kind="stable")
        order = order[first[order] < count]
        start, end = (np.searchsorted(number, order, side=side) for side in ("left", "right"))
        return cls(answers, first[order], start, end, items, rows, liked)

    def within(self, block: BoolArray, most: int) -> Int64Array:
        """At most so many, in all processes, of the lists whose row is of the block, evenly apart; those held here.

        Args:
            block: [n] whether the impression belongs to it.
            most: how many.
        """
        found = np.flatnonzero(block[self.rows])
        share = Share.of(len(found))
        stride = max(-(-share.total // most), 1)
        return found[(share.first + np.arange(len(found))) % stride == 0]

    def seen(self, lists: Int64Array, until: Int64Array) -> tuple[Int64Array, BoolArray]:
        """[b, most seen] items of those lists, 0 where a list has no more, and whether the user liked them.

        Args:
            lists: b of them.
            until: [b] a row; what was acted on from there on is left out, as what is not known yet, and so is what
                stands below the last item that was acted on before.
        """
        which, places = rows_between(self.start[lists], self.end[lists])
        columns = places - self.start[lists][which]
        acted = self.acted[places]
        is_known = acted < until[which]
        last = np.full(len(lists), -1)
        is_act = is_known & (acted != PASSED_OVER)
        np.maximum.at(last, which[is_act], columns[is_act])
        is_known &= columns <= last[which]
        items = np.zeros((len(lists), columns.max(initial=-1) + 1), np.int64)
        liked = np.zeros(items.shape, bool)
        items[which, columns] = np.where(is_known, self.items[places], 0)
        liked[which, columns] = is_known & self.liked[places]
        return items, liked


def _rows_of(users: Int64Array, items: Int64Array, sequences: Sequences) -> Int64Array:
    """[pairs] the last impression of each pair of user_index and item_index, n where none of the n is."""
    # The log is of a few of the users, and a sort of all impressions would take more memory than anything else here.
    near = np.flatnonzero(np.isin(sequences.users, users))
    pairs = sequences.users[near] * sequences.item_count + sequences.items[near]
    order = np.argsort(pairs, kind="stable")
    pairs, near = pairs[order], near[order]
    asked = users * sequences.item_count + items
    place = np.searchsorted(pairs, asked, side="right") - 1
    rows = np.full(len(asked), len(sequences.items))
    is_known = place >= 0
    is_known[is_known] = pairs[place[is_known]] == asked[is_known]
    rows[is_known] = near[place[is_known]]
    return rows
