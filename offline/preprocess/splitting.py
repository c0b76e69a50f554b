"""From ratings to labelled rows in the split's order, for whole users: all of them, or those of one part.

Both engines call these functions. Nothing here looks beyond the rows of one user, which is why a cluster may hand in
some users and a laptop all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.dataset import RatingScale, RowCounts
from data_exchange_center.stored_table import Parts
from data_exchange_center.user_state import user_starts
from offline.preprocess.encoding import vocabulary_index

# Of each split, how many rows were liked, and how many were not.
LabelCounts = Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class SplitRatings:
    """All ratings, labelled and split.

    Attributes:
        offline, online: catalogue entries OFFLINE_IMPRESSIONS and ONLINE_IMPRESSIONS.
        userids, itemids: all that occur, ascending.
        user_ids, item_ids: the vocabularies, ascending: those that occur in the offline rows.
        external_ids: by userid and itemid, where those are text: the text of each id.
        counts: of the rows that are left.
        repeated: how many rows were dropped before, see `rated_again`.
    """

    offline: pa.Table | Parts
    online: pa.Table | Parts
    userids: Int64Array
    itemids: Int64Array
    user_ids: Int64Array
    item_ids: Int64Array
    external_ids: Mapping[str, pd.Series]
    counts: LabelCounts
    repeated: int


def time_order(users: Int64Array, timestamps: Int64Array) -> Int64Array:
    """[n] row numbers by (user, timestamp, file order)."""
    return np.lexsort((timestamps, users))  # stable: rows that tie keep the file's order


def rated_again(users: Int64Array, items: Int64Array) -> BoolArray:
    """[n] whether the user rates the item again in a later row.

    Args:
        users, items: [n] of each row, in `time_order`: of two rows at the same time the later one in the file counts.
    """
    return np.asarray(pd.DataFrame({Column.USERID: users, Column.ITEMID: items}).duplicated(keep="last"))


def split_rows(users: Int64Array, online_rows: int) -> UInt8Array:
    """[n] the split of each row.

    Args:
        users: [n] user of each row, in `time_order`.
        online_rows: last rows of each user that are kept for the online evaluation.
    """
    starts = user_starts(users)
    position = np.arange(len(users)) - starts
    total = np.bincount(np.searchsorted(np.unique(starts), starts))[np.searchsorted(np.unique(starts), starts)]
    offline = np.maximum(total - online_rows, 0)
    # Whole numbers throughout: rn < n * 0.8, and of those n_train the last tenth.
    training = -(-offline * 4 // 5)
    split = np.where(position * 5 < offline * 4, Split.TRAIN, Split.TEST)
    split = np.where((position < training) & (position * 10 >= training * 9), Split.VALID, split)
    return np.where(position >= offline, Split.ONLINE, split).astype(np.uint8)


def split_users(ratings: pa.Table, online_rows: int, scale: RatingScale) -> pa.Table:
    """Each user's rows in `time_order`, without those of items rated again, with their label and their split.

    Args:
        ratings: userid, itemid, rating and timestamp of whole users, each user's in file order.
        online_rows: see `split_rows`.
        scale: which ratings are positives.
    """
    order = time_order(ratings[Column.USERID].to_numpy(), ratings[Column.TIMESTAMP].to_numpy())
    userid, itemid, rating, timestamp = (
        ratings[name].to_numpy()[order] for name in (Column.USERID, Column.ITEMID, Column.RATING, Column.TIMESTAMP)
    )
    last = ~rated_again(userid, itemid)
    return pa.table(
        {
            Column.USERID: userid[last],
            Column.ITEMID: itemid[last],
            Column.RATING: rating[last],
            Column.TIMESTAMP: timestamp[last],
            Column.LABEL: scale.are_positive(rating[last]).astype(np.uint8),
            Column.SPLIT: split_rows(userid[last], online_rows),
        }
    )


def with_indices(rows: pa.Table, user_ids: Int64Array, item_ids: Int64Array) -> pa.Table:
    """The rows of `split_users` with the vocabularies' index of user and item."""
    userid, itemid = rows[Column.USERID].to_numpy(), rows[Column.ITEMID].to_numpy()
    return pa.table(
        {
            Column.USERID: userid,
            Column.ITEMID: itemid,
            Column.USER_INDEX: vocabulary_index(userid, user_ids),
            Column.ITEM_INDEX: vocabulary_index(itemid, item_ids),
            **{name: rows[name] for name in (Column.RATING, Column.TIMESTAMP, Column.LABEL, Column.SPLIT)},
        }
    )


def row_counts(counts: LabelCounts, repeated: int) -> RowCounts:
    """How many rows there are of each kind, and how many were dropped before as repeated."""
    rows = {split: sum(counts.get(split, (0, 0))) for split in Split.ALL}
    positives = sum(liked for liked, _ in counts.values())
    return RowCounts(
        ratings=sum(rows.values()),
        positives=positives,
        negatives=sum(rows.values()) - positives,
        online=rows[Split.ONLINE],
        train=rows[Split.TRAIN] + rows[Split.VALID],
        train_of_which_valid=rows[Split.VALID],
        test=rows[Split.TEST],
        repeated=repeated,
    )
