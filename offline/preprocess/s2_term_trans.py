"""Turns impressions into what the recalls and the ranking model look at: genres, windows, filters, popularity.

    python -m offline.preprocess.s2_term_trans

Why here: the history window of a training row must be the one that serving would have seen just before it. Both come
from data_exchange_center/user_state.py, at the same moment, and later stages only read the result.

The windows and filters are made by an engine (offline/engines/engine.py), the tables of items here.
"""

import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.commit import writing
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import from_matrix
from offline.engines.engine import engine_of
from offline.preprocess.histories import ItemGenres, popular_items

READS = (catalogue.DATASET, catalogue.USERS, catalogue.ITEMS, catalogue.OFFLINE_IMPRESSIONS)
WRITES = (
    catalogue.HISTORY,
    catalogue.USER_HISTORY,
    catalogue.ITEM_GENRES,
    catalogue.USER_FILTER,
    catalogue.POPULAR_ITEMS,
)


def main() -> None:
    """Windows before each row and after the last, genres, filters, popularity."""
    features = catalogue.DATASET.load().features
    users, items = catalogue.USERS.load(), catalogue.ITEMS.load()
    genres = ItemGenres.of(items, features)
    flags = from_matrix(features.genre_flags, genres.flags)
    with engine_of(Settings()) as engine:
        found = engine.histories(catalogue.OFFLINE_IMPRESSIONS, users, genres, features)
        with writing(WRITES) as out:
            out.save(catalogue.HISTORY, found.before)
            out.save(catalogue.USER_HISTORY, found.newest)
            out.save(catalogue.ITEM_GENRES, pa.table({Column.ITEMID: genres.itemids, **flags}))
            out.save(catalogue.USER_FILTER, found.seen)
            out.save(catalogue.POPULAR_ITEMS, popular_items(found.positives, genres.itemids))
    rows, listed = int(found.impressions.sum()), int(found.impressions @ genres.flags.sum(1, dtype="int64"))
    print(
        f"{rows:,} windows before an impression, {len(users):,} newest ones, {len(items):,} items, "
        f"{listed / max(rows, 1):.2f} genres an impression"
    )


if __name__ == "__main__":
    run_stage(main)
