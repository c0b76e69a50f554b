"""Turns impressions into what the recalls and the ranking model look at: genres, windows, filters, popularity.

    python -m offline.preprocess.s2_term_trans

Why here: the history window of a training row must be the one that serving would have seen just before it. Both come
from data_exchange_center/genre_history.py, at the same moment, and later stages only read the result.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center import columns as c
from data_exchange_center.columns import ITEMID, ITEMS, LABEL, POSITIVES, SPLIT, USERID, Split
from data_exchange_center.features import GENRE_FLAGS, HISTORY_COUNTS
from data_exchange_center.genre_history import user_starts, window_counts
from data_exchange_center.stage import run_stage
from data_exchange_center.vocabularies import GENRE_INDEX, GENRES

READS = (catalogue.USERS, catalogue.ITEMS, catalogue.OFFLINE_IMPRESSIONS)
WRITES = (
    catalogue.HISTORY,
    catalogue.USER_HISTORY,
    catalogue.ITEM_GENRES,
    catalogue.USER_FILTER,
    catalogue.POPULAR_ITEMS,
)

Flags = npt.NDArray[np.uint8]


def genre_flags(items: pa.Table) -> Flags:
    """[items, genres] 1 where the item has the genre."""
    lists = items[c.GENRES].combine_chunks()
    flags = np.zeros((len(items), len(GENRES)), np.uint8)
    places = np.array([GENRE_INDEX[g] - 1 for g in lists.flatten().to_pylist()], np.int64)
    flags[lists.value_parent_indices().to_numpy(zero_copy_only=False), places] = 1
    return flags


def columns_of(names: tuple[str, ...], matrix: Flags) -> dict[str, Flags]:
    """The matrix as named columns."""
    return {name: np.ascontiguousarray(matrix[:, place]) for place, name in enumerate(names)}


def newest_counts(userid: npt.NDArray[np.int64], flags: Flags, labels: Flags, of: npt.NDArray[np.int64]) -> Flags:
    """[len(of), 2 * genres] the window after each user's last row; zeros for a user without rows.

    Args:
        userid: [n] of the impressions, in the split's order.
        flags, labels: [n, genres] and [n] of the impressions.
        of: users asked for.
    """
    first, end = np.searchsorted(userid, of, side="left"), np.searchsorted(userid, of, side="right")
    return window_counts(flags, labels, first, end)


def seen_items(impressions: pa.Table) -> pa.Table:
    """Catalogue entry USER_FILTER: one row a user of the impressions, the items in order of itemid."""
    userid, itemid = impressions[USERID].to_numpy(), impressions[ITEMID].to_numpy()
    order = np.lexsort((itemid, userid))
    userid, itemid = userid[order], itemid[order]
    new = np.r_[True, (userid[1:] != userid[:-1]) | (itemid[1:] != itemid[:-1])][: len(userid)]
    userid, itemid = userid[new], itemid[new]
    users, first = np.unique(userid, return_index=True)
    offsets = np.r_[first, len(itemid)].astype(np.int32)
    return pa.table({USERID: users, ITEMS: pa.ListArray.from_arrays(pa.array(offsets), pa.array(itemid))})


def popular_items(itemid: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> pa.Table:
    """Catalogue entry POPULAR_ITEMS.

    Args:
        itemid: [n] items of the positive training rows.
        items: [items] all items, sorted.
    """
    counts = np.bincount(np.searchsorted(items, itemid), minlength=len(items))
    order = np.lexsort((items, -counts))
    return pa.table({ITEMID: items[order], POSITIVES: counts[order]})


def main() -> None:
    """Windows before each row and after the last, genres, filters, popularity."""
    users, items = catalogue.load_table(catalogue.USERS), catalogue.load_table(catalogue.ITEMS)
    impressions = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS)
    userid, itemid = impressions[USERID].to_numpy(), impressions[ITEMID].to_numpy()
    labels, split = impressions[LABEL].to_numpy(), impressions[SPLIT].to_numpy()

    of_items = genre_flags(items)
    all_items = items[ITEMID].to_numpy()
    flags = of_items[np.searchsorted(all_items, itemid)]
    before = window_counts(flags, labels, user_starts(userid), np.arange(len(userid)))
    newest = newest_counts(userid, flags, labels, users[USERID].to_numpy())
    training_positives = itemid[(split != Split.TEST) & (labels == 1)]

    with catalogue.writing(WRITES) as out:
        out.table(catalogue.HISTORY, pa.table(columns_of(HISTORY_COUNTS, before)))
        out.table(
            catalogue.USER_HISTORY,
            pa.table({USERID: users[USERID], **columns_of(HISTORY_COUNTS, newest)}),
        )
        out.table(catalogue.ITEM_GENRES, pa.table({ITEMID: items[ITEMID], **columns_of(GENRE_FLAGS, of_items)}))
        out.table(catalogue.USER_FILTER, seen_items(impressions))
        out.table(catalogue.POPULAR_ITEMS, popular_items(training_positives, all_items))
    print(
        f"{len(userid):,} windows before an impression, {len(users):,} newest ones, {len(items):,} items, "
        f"{flags.sum(1).mean():.2f} genres an impression"
    )


if __name__ == "__main__":
    run_stage(main)
