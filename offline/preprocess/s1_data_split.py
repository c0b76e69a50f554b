"""Reads the raw ratings, labels them and splits them by time within each user.

    python -m offline.preprocess.s1_data_split

Why: a recommender is asked about the future, so it is measured on each user's latest rows, never on a random draw.
Each user's last 10 rows (an own table may say how many) are the online evaluation; of the rest the first 80 % are the
training rows (their last 10 % are `valid`, on which every choice is made) and the last 20 % are `test`, read once, at
the end.

Of a user's repeated ratings of one item the last counts. The earlier ones are dropped before the split: otherwise an
item that the filter holds as seen could be one that the lists are to find.
"""

import hashlib
import logging

import numpy as np
import pandas as pd
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array
from data_exchange_center.artefact import Artefacts
from data_exchange_center.columns import Column, Split
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument, RatingScale, RowCounts
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.user_state import user_starts
from offline.preprocess import movielens
from offline.preprocess.encoding import (
    add_missing,
    categories_of,
    item_table,
    user_table,
    vocabulary_index,
    with_external_ids,
    with_titles,
)
from offline.thin_data import lack

logger = logging.getLogger(__name__)

READS: Artefacts = ()
WRITES = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.ONLINE_IMPRESSIONS,
)


PARTS = {"train": Split.TRAIN, "valid": Split.VALID, "test": Split.TEST}


def time_order(users: Int64Array, timestamps: Int64Array) -> Int64Array:
    """[n] row numbers by (user, timestamp, file order)."""
    return np.lexsort((timestamps, users))  # stable: rows that tie keep the file's order


def rated_again(users: Int64Array, items: Int64Array) -> BoolArray:
    """[n] whether the user rates the item again in a later row.

    Args:
        users, items: [n] of each row, in `time_order`: of two rows at the same time the later one in the file counts.
    """
    again = np.asarray(pd.DataFrame({Column.USERID: users, Column.ITEMID: items}).duplicated(keep="last"))
    if again.any():
        logger.warning(
            "%d of %d ratings are of an item that the user rated again: the last one counts, earlier ones are dropped.",
            again.sum(),
            len(again),
        )
    return again


def split_rows(users: Int64Array, online_rows: int) -> tuple[BoolArray, UInt8Array]:
    """Which rows are online, and the split of the others.

    Args:
        users: [n] user of each row, in `time_order`.
        online_rows: last rows of each user that are kept for the online evaluation.

    Returns:
        online [n] bool; split [n] uint8 of Split, without meaning where online.
    """
    starts = user_starts(users)
    position = np.arange(len(users)) - starts
    total = np.bincount(np.searchsorted(np.unique(starts), starts))[np.searchsorted(np.unique(starts), starts)]
    offline = np.maximum(total - online_rows, 0)
    # Whole numbers throughout: rn < n * 0.8, and of those n_train the last tenth.
    training = -(-offline * 4 // 5)
    split = np.where(position * 5 < offline * 4, Split.TRAIN, Split.TEST)
    split = np.where((position < training) & (position * 10 >= training * 9), Split.VALID, split)
    return position >= offline, split.astype(np.uint8)


def impression_table(
    raw: pa.Table, order: Int64Array, user_ids: Int64Array, item_ids: Int64Array, scale: RatingScale
) -> pa.Table:
    """The columns that offline and online impressions share.

    Args:
        raw: the ratings in file order.
        order: [n] row numbers in the split's order.
        user_ids, item_ids: the vocabularies.
        scale: which ratings are positives.
    """
    userid, itemid, rating = (raw[name].to_numpy()[order] for name in (Column.USERID, Column.ITEMID, Column.RATING))
    return pa.table(
        {
            Column.USERID: userid,
            Column.ITEMID: itemid,
            Column.USER_INDEX: vocabulary_index(userid, user_ids),
            Column.ITEM_INDEX: vocabulary_index(itemid, item_ids),
            Column.RATING: rating,
            Column.TIMESTAMP: raw[Column.TIMESTAMP].to_numpy()[order],
            Column.LABEL: scale.are_positive(rating).astype(np.uint8),
        }
    )


def row_counts(labels: UInt8Array, online: BoolArray, split: UInt8Array, repeated: int) -> RowCounts:
    """How many rows there are of each kind, and how many were dropped before as repeated."""
    training = ~online & (split != Split.TEST)
    positives = int(labels.sum())
    return RowCounts(
        ratings=len(labels),
        positives=positives,
        negatives=len(labels) - positives,
        online=int(online.sum()),
        train=int(training.sum()),
        train_of_which_valid=int((training & (split == Split.VALID)).sum()),
        test=int((~online & (split == Split.TEST)).sum()),
        repeated=repeated,
    )


def main() -> None:
    """Reads, splits, writes."""
    settings = Settings()
    data = movielens.raw_data(settings)
    raw = data.ratings()
    users_of_rows, items_of_rows = raw[Column.USERID].to_numpy(), raw[Column.ITEMID].to_numpy()
    order = time_order(users_of_rows, raw[Column.TIMESTAMP].to_numpy())
    again = rated_again(users_of_rows[order], items_of_rows[order])
    order = order[~again]
    userid, itemid = users_of_rows[order], items_of_rows[order]
    online, split = split_rows(userid, data.online_rows)

    # The vocabularies hold what the served model can learn: the ids of the offline rows. The models that are measured
    # on `test` see fewer; an id that no row to fit holds counts as unknown there (zeros).
    user_ids, item_ids = np.unique(userid[~online]), np.unique(itemid[~online])
    impressions = impression_table(raw, order, user_ids, item_ids, data.scale)
    users = add_missing(data.users(), Column.USERID, np.unique(userid), data.users_file)
    users = with_external_ids(users, Column.USERID, Column.EXTERNAL_USERID, raw)
    movies = add_missing(data.movies(), Column.ITEMID, np.unique(itemid), data.movies_file)
    movies = with_external_ids(movies, Column.ITEMID, Column.EXTERNAL_ITEMID, raw)
    categories = data.fixed_categories
    if categories is None:
        movies = with_titles(movies)
        categories = categories_of(users, movies)
    text_ids = {Column.USERID: Column.EXTERNAL_USERID, Column.ITEMID: Column.EXTERNAL_ITEMID}
    offline = impressions.filter(pa.array(~online)).append_column(Column.SPLIT, pa.array(split[~online]))
    labels = impressions[Column.LABEL].to_numpy()
    parts = {name: labels[~online & (split == part)] for name, part in PARTS.items()}
    if sentence := lack(parts, data.scale, data.online_rows):
        logger.warning("The stages after preprocessing will refuse these data: %s", sentence)
    rows = row_counts(labels, online, split, repeated=int(again.sum()))
    with writing(WRITES) as out:
        out.save(
            catalogue.OFFLINE_IMPRESSIONS, offline.add_column(0, Column.IMPRESSION, pa.array(np.arange(len(offline))))
        )
        out.save(catalogue.ONLINE_IMPRESSIONS, impressions.filter(pa.array(online)))
        out.save(
            catalogue.DATASET,
            DatasetDocument(
                dataset=settings.dataset_name,
                seed=settings.seed,
                rows=rows,
                scale=data.scale,
                online_rows=data.online_rows,
                categories=categories,
                text_ids=tuple(key for key, external in text_ids.items() if external in raw.column_names),
                id_sizes={Column.USERID: len(user_ids) + 1, Column.ITEMID: len(item_ids) + 1},
                id_digest=hashlib.sha256(user_ids.tobytes() + b"|" + item_ids.tobytes()).hexdigest()[:16],
            ),
        )
        # After the data set, whose categories are their columns.
        out.save(catalogue.USERS, user_table(users, user_ids, categories.user))
        out.save(catalogue.ITEMS, item_table(movies, item_ids, categories))
    print(f"read {data.folder}: " + ", ".join(f"{name} {count:,}" for name, count in rows.model_dump().items()))


if __name__ == "__main__":
    run_stage(main)
