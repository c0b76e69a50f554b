"""Builds the 59 features: the training frame, and the entities for serving, from one declaration.

    python -m offline.rank.s1_feature_engi

The order, the names and the types come from data_exchange_center/features.py. A training row gets the history window
just before it; a user's serving row gets the newest one; both were counted by the same function. No value is scaled
here: that is a layer of the model, so that the services carry counts that a person can read.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEMID, LABEL, SPLIT, USERID
from data_exchange_center.features import COLUMNS, HISTORY_COUNTS, entity_columns, feature_hash, vocabulary_sizes
from data_exchange_center.stage import run_stage

READS = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.HISTORY,
    catalogue.USER_HISTORY,
    catalogue.ITEM_GENRES,
)
WRITES = (catalogue.TRAINING_FRAME, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES, catalogue.FEATURE_META)


def side_by_side(*tables: pa.Table) -> pa.Table:
    """Tables that match row by row as one; a column that two share is taken from the first."""
    columns: dict[str, pa.ChunkedArray] = {}
    for table in tables:
        for name in table.column_names:
            columns.setdefault(name, table[name])
    return pa.table(columns)


def rows_of(table: pa.Table, key: str, ids: npt.NDArray[np.int64]) -> pa.Table:
    """The table's row for each id. The table is sorted by `key` and holds every id."""
    return table.take(pa.array(np.searchsorted(table[key].to_numpy(), ids)))


def main() -> None:
    """Entities, then the training frame from the entities."""
    dataset = catalogue.load_json(catalogue.DATASET)
    impressions = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID, ITEMID, LABEL, SPLIT])
    users = catalogue.load_table(catalogue.USERS)
    serving_users = side_by_side(users, catalogue.load_table(catalogue.USER_HISTORY))
    items = side_by_side(catalogue.load_table(catalogue.ITEMS), catalogue.load_table(catalogue.ITEM_GENRES))
    item_features = items.select([ITEMID, *entity_columns("item")])

    frame = side_by_side(
        rows_of(users, USERID, impressions[USERID].to_numpy()),
        rows_of(item_features, ITEMID, impressions[ITEMID].to_numpy()),
        catalogue.load_table(catalogue.HISTORY).select(list(HISTORY_COUNTS)),
        impressions,
    ).select([*COLUMNS, LABEL, SPLIT])

    sizes = vocabulary_sizes(dataset["id_sizes"])
    meta = {
        "dataset": dataset["dataset"],
        "columns": list(COLUMNS),
        "vocabulary_sizes": sizes,
        "id_digest": dataset["id_digest"],
        "feature_hash": feature_hash(COLUMNS, sizes, dataset["id_digest"]),
    }
    with catalogue.writing(WRITES) as out:
        out.table(catalogue.TRAINING_FRAME, frame)
        out.table(catalogue.USER_FEATURES, serving_users.select([USERID, *entity_columns("user")]))
        out.table(catalogue.ITEM_FEATURES, item_features)
        out.json(catalogue.FEATURE_META, meta)
    print(
        f"{len(COLUMNS)} features, hash {meta['feature_hash']}: {len(frame):,} training and test rows, "
        f"{len(users):,} users, {len(items):,} items"
    )


if __name__ == "__main__":
    run_stage(main)
