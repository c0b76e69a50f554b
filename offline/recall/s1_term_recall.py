"""Term recall: items of the genres that a user liked lately.

    python -m offline.recall.s1_term_recall

A genre is liked from 3 positives in the window of the last 10 impressions (liked_genres, which live events use too).
Served are the terms after the user's last offline row; measured are those after the last training row, against the
positives of `test`, the items of the training rows filtered, in order of popularity, as Elasticsearch returns them.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEMID, LABEL, SPLIT, TERMS, USERID, Split
from data_exchange_center.features import GENRE_FLAGS, HISTORY_COUNTS
from data_exchange_center.genre_history import liked_genres, window_counts
from data_exchange_center.scoring import RECALL_SIZE
from data_exchange_center.stage import run_stage
from data_exchange_center.vocabularies import GENRES

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

Matrix = npt.NDArray[np.uint8]


def matrix_of(table: pa.Table, names: tuple[str, ...]) -> Matrix:
    """[rows, names] the columns side by side."""
    return np.stack([table[name].to_numpy() for name in names], axis=1)


def term_lists(liked: npt.NDArray[np.bool_]) -> pa.Array:
    """The liked genres of each row as a list of names."""
    users, genres = np.nonzero(liked)
    offsets = np.r_[0, np.cumsum(np.bincount(users, minlength=len(liked)))].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.array(GENRES, object)[genres], pa.string()))


def hits_of_term_recall(
    liked: npt.NDArray[np.bool_], flags: Matrix, seen: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """[users] how many of the wanted items are among the first RECALL_SIZE of the liked genres.

    Args:
        liked: [users, genres].
        flags: [items, genres], items by popularity.
        seen, wanted: [users, items].
    """
    matches = (liked.astype(np.float32) @ flags.T.astype(np.float32) > 0) & ~seen
    recalled = matches & (np.cumsum(matches, axis=1) <= RECALL_SIZE)
    hits: npt.NDArray[np.int64] = (recalled & wanted).sum(axis=1)
    return hits


def measure(
    impressions: pa.Table, flags: Matrix, by_popularity: npt.NDArray[np.int64], items: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Hit rate and recall on test, over the users that have a positive there.

    Args:
        impressions: catalogue entry OFFLINE_IMPRESSIONS.
        flags: [items, genres] by itemid; items: [items] itemids, sorted.
        by_popularity: [items] places in `items`, the most popular first.
    """
    labels, training = impressions[LABEL].to_numpy(), impressions[SPLIT].to_numpy() != Split.TEST
    item_of = np.searchsorted(items, impressions[ITEMID].to_numpy())
    users, first, user_of = np.unique(impressions[USERID].to_numpy(), return_index=True, return_inverse=True)
    after_training = first + np.bincount(user_of[training], minlength=len(users))
    liked = liked_genres(window_counts(flags[item_of], labels, first, after_training))

    place = np.argsort(by_popularity)  # of each item in the order of popularity
    shape = (len(users), len(items))
    seen, wanted = (
        sp.csr_matrix((np.ones(rows.sum(), bool), (user_of[rows], place[item_of[rows]])), shape)
        for rows in (training, ~training & (labels == 1))
    )
    counts = wanted.getnnz(axis=1)
    judged = np.flatnonzero(counts)
    hits = np.zeros(len(users), np.int64)
    for at in range(0, len(judged), USERS_AT_A_TIME):
        block = judged[at : at + USERS_AT_A_TIME]
        seen_here, wanted_here = seen[block].toarray(), wanted[block].toarray()
        hits[block] = hits_of_term_recall(liked[block], flags[by_popularity], seen_here, wanted_here)
    return {
        "users": len(judged),
        "users_with_terms": int(liked[judged].any(axis=1).sum()),
        f"hit_rate@{RECALL_SIZE}": float((hits[judged] > 0).mean()) if len(judged) else 0.0,
        f"recall@{RECALL_SIZE}": float((hits[judged] / counts[judged]).mean()) if len(judged) else 0.0,
    }


def main() -> None:
    """Terms for serving; the figures on test."""
    dataset = catalogue.load_json(catalogue.DATASET)
    genres = catalogue.load_table(catalogue.ITEM_GENRES)
    flags, items = matrix_of(genres, GENRE_FLAGS), genres[ITEMID].to_numpy()
    popular = catalogue.load_table(catalogue.POPULAR_ITEMS)
    by_popularity = np.searchsorted(items, popular[ITEMID].to_numpy())

    history = catalogue.load_table(catalogue.USER_HISTORY)
    served = catalogue.load_table(catalogue.USER_FILTER)[USERID]  # the users with offline rows
    newest = matrix_of(history, HISTORY_COUNTS)[np.searchsorted(history[USERID].to_numpy(), served.to_numpy())]
    liked = liked_genres(newest)
    impressions = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID, ITEMID, LABEL, SPLIT])
    metrics = measure(impressions, flags, by_popularity, items)
    with catalogue.writing(WRITES) as out:
        out.table(catalogue.USER_TERM, pa.table({USERID: served, TERMS: term_lists(liked)}))
        out.json(
            catalogue.TERM_RECALL_METRICS,
            {"dataset": dataset["dataset"], "seed": dataset["seed"], "rows": dataset["rows"], **metrics},
        )
    print(f"{liked.any(axis=1).sum():,} of {len(liked):,} users like a genre, {liked.sum(1).mean():.2f} on average")
    print(f"data set {dataset['dataset']}, on test: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))


if __name__ == "__main__":
    run_stage(main)
