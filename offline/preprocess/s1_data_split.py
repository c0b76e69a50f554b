"""Reads the raw ratings, labels them and splits them by time within each user.

    python -m offline.preprocess.s1_data_split

Why: a recommender is asked about the future, so it is measured on each user's latest rows, never on a random draw.
Each user's last 10 rows are the online evaluation; of the rest the first 80 % are the training rows (their last 10 %
are `valid`, on which every choice is made) and the last 20 % are `test`, read once, at the end.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import (
    ITEM_INDEX,
    ITEMID,
    LABEL,
    POSITIVE_ABOVE,
    RATING,
    SPLIT,
    TIMESTAMP,
    USER_INDEX,
    USERID,
    Split,
)
from data_exchange_center.genre_history import user_starts
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.preprocess import movielens
from offline.preprocess.encoding import add_missing, item_table, user_table, vocabulary_index

READS: tuple[catalogue.Artefact, ...] = ()
WRITES = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.ONLINE_IMPRESSIONS,
)

ONLINE_ROWS = 10  # last rows of each user, kept for the online evaluation

Ints = npt.NDArray[np.int64]


def time_order(users: Ints, timestamps: Ints) -> Ints:
    """[n] row numbers by (user, timestamp, file order)."""
    return np.lexsort((timestamps, users))  # stable: rows that tie keep the file's order


def split_rows(users: Ints) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
    """Which rows are online, and the split of the others.

    Args:
        users: [n] user of each row, in `time_order`.

    Returns:
        online [n] bool; split [n] uint8 of Split, without meaning where online.
    """
    starts = user_starts(users)
    position = np.arange(len(users)) - starts
    total = np.bincount(np.searchsorted(np.unique(starts), starts))[np.searchsorted(np.unique(starts), starts)]
    offline = np.maximum(total - ONLINE_ROWS, 0)
    # Whole numbers throughout: rn < n * 0.8, and of those n_train the last tenth.
    training = -(-offline * 4 // 5)
    split = np.where(position * 5 < offline * 4, Split.TRAIN, Split.TEST)
    split = np.where((position < training) & (position * 10 >= training * 9), Split.VALID, split)
    return position >= offline, split.astype(np.uint8)


def main() -> None:
    """Reads, splits, writes."""
    settings = Settings()
    folder = movielens.check_present(settings)
    raw = movielens.read_ratings(folder / movielens.RATINGS_FILE)
    userid, timestamp = raw[USERID].to_numpy(), raw[TIMESTAMP].to_numpy()
    order = time_order(userid, timestamp)
    userid, itemid, rating = userid[order], raw[ITEMID].to_numpy()[order], raw[RATING].to_numpy()[order]
    online, split = split_rows(userid)

    # The vocabularies hold what the served model can learn: the ids of the offline rows. The models that are measured
    # on `test` see fewer; an id that no row to fit holds counts as unknown there (zeros).
    training = ~online & (split != Split.TEST)
    user_ids, item_ids = np.unique(userid[~online]), np.unique(itemid[~online])
    impressions = pa.table(
        {
            USERID: userid,
            ITEMID: itemid,
            USER_INDEX: vocabulary_index(userid, user_ids),
            ITEM_INDEX: vocabulary_index(itemid, item_ids),
            RATING: rating,
            TIMESTAMP: timestamp[order],
            LABEL: (rating > POSITIVE_ABOVE).astype(np.uint8),
        }
    )
    users = add_missing(movielens.read_users(folder / movielens.USERS_FILE), USERID, np.unique(userid), "users.dat")
    movies = add_missing(movielens.read_movies(folder / movielens.MOVIES_FILE), ITEMID, np.unique(itemid), "movies.dat")
    positives = int((rating > POSITIVE_ABOVE).sum())
    counts = {
        "ratings": len(userid),
        "positives": positives,
        "negatives": len(userid) - positives,
        "online": int(online.sum()),
        "train": int(training.sum()),
        "train_of_which_valid": int((training & (split == Split.VALID)).sum()),
        "test": int((~online & (split == Split.TEST)).sum()),
    }
    with catalogue.writing(WRITES) as out:
        out.table(catalogue.USERS, user_table(users, user_ids))
        out.table(catalogue.ITEMS, item_table(movies, item_ids))
        out.table(
            catalogue.OFFLINE_IMPRESSIONS,
            impressions.filter(pa.array(~online)).append_column(SPLIT, pa.array(split[~online])),
        )
        out.table(catalogue.ONLINE_IMPRESSIONS, impressions.filter(pa.array(online)))
        out.json(
            catalogue.DATASET,
            {
                "dataset": settings.dataset_name,
                "seed": settings.seed,
                "rows": counts,
                "id_sizes": {USERID: len(user_ids) + 1, ITEMID: len(item_ids) + 1},
                "id_digest": hashlib.sha256(user_ids.tobytes() + b"|" + item_ids.tobytes()).hexdigest()[:16],
            },
        )
    print(f"read {folder}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))


if __name__ == "__main__":
    run_stage(main)
