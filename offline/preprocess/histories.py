"""What an impression's user had done before it, and has done by now, for whole users: all, or those of one part.

Both engines call these functions, which look at no more than one user's rows, and at the genres of the items.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_exchange_center.arrays import Int64Array, UInt8Array
from data_exchange_center.columns import Column
from data_exchange_center.features import FeatureSet
from data_exchange_center.stored_table import Parts
from data_exchange_center.tables import from_matrix
from data_exchange_center.user_state import genre_flags, newest_windows, user_starts, window_counts

# The columns of the offline impressions that the functions below read.
OF_IMPRESSIONS = (Column.USERID, Column.TIMESTAMP, Column.IMPRESSION, Column.ITEMID, Column.LABEL, Column.SPLIT)


@dataclass(frozen=True)
class ItemGenres:
    """The genres of each item.

    Attributes:
        itemids: [items] ascending.
        flags: [items, genres] 1 where the item has the genre.
    """

    itemids: Int64Array
    flags: UInt8Array

    @classmethod
    def of(cls, items: pa.Table, features: FeatureSet) -> "ItemGenres":
        """From catalogue entry ITEMS."""
        flags = genre_flags(items[Column.GENRES].to_pylist(), features.categories.genres)
        return cls(items[Column.ITEMID].to_numpy(), flags)

    def of_items(self, itemid: Int64Array) -> UInt8Array:
        """[n, genres] the flags of each of the items."""
        return self.flags[np.searchsorted(self.itemids, itemid)]


@dataclass(frozen=True)
class Histories:
    """What follows from all offline impressions.

    Attributes:
        before: catalogue entry HISTORY.
        newest: catalogue entry USER_HISTORY.
        seen: catalogue entry USER_FILTER.
        impressions: [items] offline rows of each item, in the order of ItemGenres.
        positives: [items] how many of its training rows are positive.
    """

    before: pa.Table | Parts
    newest: pa.Table
    seen: pa.Table | Parts
    impressions: Int64Array
    positives: Int64Array


def windows_before(impressions: pa.Table, genres: ItemGenres, features: FeatureSet) -> pa.Table:
    """Catalogue entry HISTORY of whole users, from their OF_IMPRESSIONS in the split's order."""
    flags, labels = genres.of_items(impressions[Column.ITEMID].to_numpy()), impressions[Column.LABEL].to_numpy()
    starts = user_starts(impressions[Column.USERID].to_numpy())
    counts = window_counts(flags, labels, starts, np.arange(len(starts)))
    return pa.table({Column.IMPRESSION: impressions[Column.IMPRESSION], **from_matrix(features.history_counts, counts)})


def windows_after(impressions: pa.Table, users: Int64Array, genres: ItemGenres, features: FeatureSet) -> pa.Table:
    """Catalogue entry USER_HISTORY of these users, from their OF_IMPRESSIONS in the split's order."""
    userid, labels = impressions[Column.USERID].to_numpy(), impressions[Column.LABEL].to_numpy()
    counts = newest_windows(userid, genres.of_items(impressions[Column.ITEMID].to_numpy()), labels, users)
    return pa.table({Column.USERID: users, **from_matrix(features.history_counts, counts)})


def seen_items(impressions: pa.Table) -> pa.Table:
    """Catalogue entry USER_FILTER: one row a user of the impressions, the items in order of itemid."""
    userid, itemid = impressions[Column.USERID].to_numpy(), impressions[Column.ITEMID].to_numpy()
    order = np.lexsort((itemid, userid))
    userid, itemid = userid[order], itemid[order]
    new = np.r_[True, (userid[1:] != userid[:-1]) | (itemid[1:] != itemid[:-1])][: len(userid)]
    userid, itemid = userid[new], itemid[new]
    users, first = np.unique(userid, return_index=True)
    offsets = np.r_[first, len(itemid)].astype(np.int32)
    return pa.table(
        {Column.USERID: users, Column.SEEN_ITEMS: pa.ListArray.from_arrays(pa.array(offsets), pa.array(itemid))}
    )


def popular_items(positives: Int64Array, items: Int64Array) -> pa.Table:
    """Catalogue entry POPULAR_ITEMS.

    Args:
        positives: [items] how many of each item's training rows are positive.
        items: [items] all items, sorted.
    """
    order = np.lexsort((items, -positives))
    return pa.table({Column.ITEMID: items[order], Column.POSITIVES: positives[order]})
