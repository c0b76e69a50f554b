"""Term recall: items of the genres that a user liked lately.

    python -m offline.recall.s1_term_recall

A genre is liked from 3 positives in the window of the last 10 impressions (liked_genres, which live events use too).
Served are the terms after the user's last offline row; measured are those after the last training row, against the
positives of `test`, the items of the training rows filtered, in order of popularity, as Elasticsearch returns them.
"""

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.commit import writing
from data_exchange_center.documents import TermRecallMetrics
from data_exchange_center.limits import RECALL_SIZE
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import to_matrix
from data_exchange_center.user_state import liked_genres, window_counts
from offline.recall.array_recall import term_matches

READS = (
    catalogue.DATASET,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.USER_HISTORY,
    catalogue.USER_FILTER,
    catalogue.ITEM_GENRES,
    catalogue.POPULAR_ITEMS,
)
WRITES = (catalogue.USER_TERM, catalogue.TERM_RECALL_METRICS)

USERS_AT_A_TIME = 1024
FIRST_ITEMS = 4096  # the most popular ones, among which nearly every list is full


def term_lists(liked: BoolArray, genres: tuple[str, ...]) -> pa.Array:
    """The liked ones of the genres of each row [users, genres] as a list of names."""
    users, places = np.nonzero(liked)
    offsets = np.r_[0, np.cumsum(np.bincount(users, minlength=len(liked)))].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.array(genres, object)[places], pa.string()))


def hits_of_term_recall(
    liked: BoolArray, flags: UInt8Array, seen: BoolArray, relevant: BoolArray
) -> tuple[Int64Array, BoolArray]:
    """[users] how many relevant items the first RECALL_SIZE of the liked genres have; whether there are so many.

    Args:
        liked: [users, genres].
        flags: [items, genres], items by popularity.
        seen, relevant: [users, items].
    """
    matches = term_matches(liked, flags) & ~seen
    recalled = matches & (np.cumsum(matches, axis=1) <= RECALL_SIZE)
    hits: Int64Array = (recalled & relevant).sum(axis=1)
    return hits, recalled.sum(axis=1) == RECALL_SIZE


def measure(impressions: pa.Table, flags: UInt8Array, by_popularity: Int64Array, items: Int64Array) -> dict[str, float]:
    """Hit rate and recall on test, over the users that have a positive there.

    Args:
        impressions: catalogue entry OFFLINE_IMPRESSIONS.
        flags: [items, genres] by itemid; items: [items] itemids, sorted.
        by_popularity: [items] places in `items`, the most popular first.
    """
    labels, training = impressions[Column.LABEL].to_numpy(), impressions[Column.SPLIT].to_numpy() != Split.TEST
    item_of = np.searchsorted(items, impressions[Column.ITEMID].to_numpy())
    users, first, user_of = np.unique(impressions[Column.USERID].to_numpy(), return_index=True, return_inverse=True)
    after_training = first + np.bincount(user_of[training], minlength=len(users))
    liked = liked_genres(window_counts(flags[item_of], labels, first, after_training))

    place = np.argsort(by_popularity)  # of each item in the order of popularity
    shape = (len(users), len(items))
    seen, relevant = (
        sp.csr_matrix((np.ones(rows.sum(), bool), (user_of[rows], place[item_of[rows]])), shape)
        for rows in (training, ~training & (labels == 1))
    )
    counts = relevant.getnnz(axis=1)
    evaluated = np.flatnonzero(counts)
    hits, waiting = np.zeros(len(users), np.int64), evaluated
    for most in dict.fromkeys((min(FIRST_ITEMS, len(items)), len(items))):
        is_full = np.zeros(len(waiting), bool)
        for at in range(0, len(waiting), USERS_AT_A_TIME):
            block = waiting[at : at + USERS_AT_A_TIME]
            seen_here, relevant_here = (matrix[block, :most].toarray() for matrix in (seen, relevant))
            found = hits_of_term_recall(liked[block], flags[by_popularity[:most]], seen_here, relevant_here)
            hits[block], is_full[at : at + USERS_AT_A_TIME] = found
        waiting = waiting[~is_full & liked[waiting].any(axis=1)]  # these have to look further
    return {
        "users": len(evaluated),
        "users_with_terms": int(liked[evaluated].any(axis=1).sum()),
        "hit_rate": float((hits[evaluated] > 0).mean()) if len(evaluated) else 0.0,
        "recall": float((hits[evaluated] / counts[evaluated]).mean()) if len(evaluated) else 0.0,
    }


def main() -> None:
    """Terms for serving; the metrics on test."""
    dataset = catalogue.DATASET.load()
    features = dataset.features
    genres = catalogue.ITEM_GENRES.load()
    flags, items = to_matrix(genres, features.genre_flags), genres[Column.ITEMID].to_numpy()
    popular = catalogue.POPULAR_ITEMS.load()
    by_popularity = np.searchsorted(items, popular[Column.ITEMID].to_numpy())

    history = catalogue.USER_HISTORY.load()
    served = catalogue.USER_FILTER.load()[Column.USERID]  # the users with offline rows
    places = np.searchsorted(history[Column.USERID].to_numpy(), served.to_numpy())
    liked = liked_genres(to_matrix(history, features.history_counts)[places])
    impressions = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID, Column.LABEL, Column.SPLIT])
    metrics = TermRecallMetrics(
        dataset=dataset.dataset,
        seed=dataset.seed,
        rows=dataset.rows,
        **measure(impressions, flags, by_popularity, items),  # type: ignore[arg-type]
    )
    with writing(WRITES) as out:
        terms = term_lists(liked, features.categories.genres)
        out.save(catalogue.USER_TERM, pa.table({Column.USERID: served, Column.TERMS: terms}))
        out.save(catalogue.TERM_RECALL_METRICS, metrics)
    average = liked.sum() / max(len(liked), 1)
    print(f"{liked.any(axis=1).sum():,} of {len(liked):,} users like a genre, {average:.2f} on average")
    print(
        f"data set {dataset.dataset}, on test: users {metrics.users}, users_with_terms {metrics.users_with_terms}, "
        f"hit_rate@{RECALL_SIZE} {metrics.hit_rate:.4g}, recall@{RECALL_SIZE} {metrics.recall:.4g}"
    )


if __name__ == "__main__":
    run_stage(main)
