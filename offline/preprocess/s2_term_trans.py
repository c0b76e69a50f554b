"""Turns impressions into what the recalls and the ranking model look at: genres, windows, filters, popularity.

    python -m offline.preprocess.s2_term_trans

Why here: the history window of a training row must be the one that serving would have seen just before it. Both come
from data_exchange_center/user_state.py, at the same moment, and later stages only read the result.
"""

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import Int64Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.commit import writing
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import from_matrix
from data_exchange_center.user_state import genre_flags, newest_windows, user_starts, window_counts

READS = (catalogue.DATASET, catalogue.USERS, catalogue.ITEMS, catalogue.OFFLINE_IMPRESSIONS)
WRITES = (
    catalogue.HISTORY,
    catalogue.USER_HISTORY,
    catalogue.ITEM_GENRES,
    catalogue.USER_FILTER,
    catalogue.POPULAR_ITEMS,
)


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


def popular_items(itemid: Int64Array, items: Int64Array) -> pa.Table:
    """Catalogue entry POPULAR_ITEMS.

    Args:
        itemid: [n] items of the positive training rows.
        items: [items] all items, sorted.
    """
    counts = np.bincount(np.searchsorted(items, itemid), minlength=len(items))
    order = np.lexsort((items, -counts))
    return pa.table({Column.ITEMID: items[order], Column.POSITIVES: counts[order]})


def main() -> None:
    """Windows before each row and after the last, genres, filters, popularity."""
    features = catalogue.DATASET.load().features
    users, items = catalogue.USERS.load(), catalogue.ITEMS.load()
    impressions = catalogue.OFFLINE_IMPRESSIONS.load()
    userid, itemid = impressions[Column.USERID].to_numpy(), impressions[Column.ITEMID].to_numpy()
    labels, split = impressions[Column.LABEL].to_numpy(), impressions[Column.SPLIT].to_numpy()

    item_flags = genre_flags(items[Column.GENRES].to_pylist(), features.categories.genres)
    all_items = items[Column.ITEMID].to_numpy()
    flags = item_flags[np.searchsorted(all_items, itemid)]
    before = window_counts(flags, labels, user_starts(userid), np.arange(len(userid)))
    newest = newest_windows(userid, flags, labels, users[Column.USERID].to_numpy())
    training_positives = itemid[(split != Split.TEST) & (labels == 1)]

    with writing(WRITES) as out:
        for artefact, key, table, names, matrix in (
            (catalogue.HISTORY, Column.IMPRESSION, impressions, features.history_counts, before),
            (catalogue.USER_HISTORY, Column.USERID, users, features.history_counts, newest),
            (catalogue.ITEM_GENRES, Column.ITEMID, items, features.genre_flags, item_flags),
        ):
            out.save(artefact, pa.table({key: table[key], **from_matrix(names, matrix)}))
        out.save(catalogue.USER_FILTER, seen_items(impressions))
        out.save(catalogue.POPULAR_ITEMS, popular_items(training_positives, all_items))
    print(
        f"{len(userid):,} windows before an impression, {len(users):,} newest ones, {len(items):,} items, "
        f"{flags.sum() / max(len(flags), 1):.2f} genres an impression"
    )


if __name__ == "__main__":
    run_stage(main)
