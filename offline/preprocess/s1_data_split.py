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

import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefacts
from data_exchange_center.columns import Column, LogColumn, Split
from data_exchange_center.commit import writing
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.log_tables import LIST_KEY
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.vocabularies import Categories
from offline.engines.engine import engine_of
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
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.readers.with_events import WithEvents
from offline.preprocess.splitting import SplitRatings, row_counts
from offline.thin_data import lack

logger = logging.getLogger(__name__)

READS: Artefacts = ()
WRITES = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.ONLINE_IMPRESSIONS,
    catalogue.ACTED_LISTS,
)


def warn(ratings: SplitRatings, data: DataSource) -> None:
    """Tells of ratings that are dropped, and of data that are too thin for the stages to come."""
    left = sum(map(sum, ratings.counts.values()))
    if ratings.repeated:
        logger.warning(
            "%d of %d ratings are of an item that the user rated again: the last one counts, earlier ones are dropped.",
            ratings.repeated,
            ratings.repeated + left,
        )
    parts = {"train": Split.TRAIN, "valid": Split.VALID, "test": Split.TEST}
    counts = {name: ratings.counts.get(split, (0, 0)) for name, split in parts.items()}
    if sentence := lack(counts, data.scale, data.online_rows):
        logger.warning("The stages after preprocessing will refuse these data: %s", sentence)


def dataset_document(
    settings: Settings, data: DataSource, ratings: SplitRatings, categories: Categories
) -> DatasetDocument:
    """Catalogue entry DATASET.

    The vocabularies hold what the served model can learn: the ids of the offline rows. The models that are measured
    on `test` see fewer; an id that no row to fit holds counts as unknown there (zeros).
    """
    user_ids, item_ids = ratings.user_ids, ratings.item_ids
    return DatasetDocument(
        dataset=settings.dataset_name,
        seed=settings.seed,
        rows=row_counts(ratings.counts, ratings.repeated),
        scale=data.scale,
        online_rows=data.online_rows,
        categories=categories,
        text_ids=tuple(ratings.external_ids),
        id_sizes={Column.USERID: len(user_ids) + 1, Column.ITEMID: len(item_ids) + 1},
        id_digest=hashlib.sha256(user_ids.tobytes() + b"|" + item_ids.tobytes()).hexdigest()[:16],
    )


def acted_lists(data: DataSource, ratings: SplitRatings) -> pa.Table:
    """Catalogue entry ACTED_LISTS: none, where a retraining has put no log beside the artefacts.

    An event that was joined to a list by time alone may have come of it, or not. It counts as found alone: otherwise
    what the user would have found anyway were left out, just where the served model was right.
    """
    schema = catalogue.ACTED_LISTS.present_schema
    if not isinstance(data, WithEvents):
        return schema.empty_table()
    seen = data.seen_in_lists().to_pandas()
    users, items = (
        vocabulary_index(seen[name].to_numpy(), ids)
        for name, ids in ((Column.USERID, ratings.user_ids), (Column.ITEMID, ratings.item_ids))
    )
    number = seen.groupby(LIST_KEY, sort=False).ngroup().to_numpy()
    # An id of no vocabulary has no offline row: there is nothing to learn of it.
    is_known = (users > 0) & (items > 0) & (seen[LogColumn.NAMED] == 1).to_numpy()
    columns = number, users, items, seen[LogColumn.ACTED].to_numpy()
    return pa.table([column[is_known] for column in columns], schema=schema)


def main() -> None:
    """Reads, splits, writes."""
    settings = Settings()
    data = movielens.raw_data(settings)
    with engine_of(settings) as engine:
        ratings = engine.split(data)
        users = add_missing(data.users(), Column.USERID, ratings.userids, data.users_file)
        users = with_external_ids(users, Column.USERID, ratings.external_ids)
        movies = add_missing(data.movies(), Column.ITEMID, ratings.itemids, data.movies_file)
        movies = with_external_ids(movies, Column.ITEMID, ratings.external_ids)
        categories = data.fixed_categories
        if categories is None:
            movies = with_titles(movies)
            categories = categories_of(users, movies)
        warn(ratings, data)
        document = dataset_document(settings, data, ratings, categories)
        with writing(WRITES) as out:
            out.save(catalogue.OFFLINE_IMPRESSIONS, ratings.offline)
            out.save(catalogue.ONLINE_IMPRESSIONS, ratings.online)
            out.save(catalogue.ACTED_LISTS, acted_lists(data, ratings))
            out.save(catalogue.DATASET, document)
            # After the data set, whose categories are their columns.
            out.save(catalogue.USERS, user_table(users, ratings.user_ids, categories.user))
            out.save(catalogue.ITEMS, item_table(movies, ratings.item_ids, categories))
    counts = document.rows.model_dump().items()
    print(f"read {data.folder}: " + ", ".join(f"{name} {count:,}" for name, count in counts))


if __name__ == "__main__":
    run_stage(main)
