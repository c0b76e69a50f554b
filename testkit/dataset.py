"""A data set with MovieLens's categories: its features, its document and a catalogue of items, for tests."""

from typing import Any

import pyarrow as pa

from data_exchange_center.columns import Column
from data_exchange_center.dataset import MOVIELENS_SCALE, DatasetDocument, RowCounts
from data_exchange_center.features import declare
from data_exchange_center.vocabularies import MOVIELENS

FEATURES = declare(MOVIELENS)


def a_dataset(**changes: Any) -> DatasetDocument:
    """The document of a tiny data set."""
    rows = RowCounts(ratings=9, positives=5, negatives=4, online=2, train=5, train_of_which_valid=1, test=2)
    fields: dict[str, Any] = {
        "dataset": "tiny",
        "seed": 1,
        "rows": rows,
        "scale": MOVIELENS_SCALE,
        "online_rows": 10,
        "categories": MOVIELENS,
        "id_sizes": {Column.USERID: 3, Column.ITEMID: 4},
        "id_digest": "abc",
    }
    return DatasetDocument(**{**fields, **changes})


def a_ratings_table(ratings: list[float]) -> pa.Table:
    """Ratings as a reader gives them, all of one user and item."""
    count = len(ratings)
    return pa.table(
        {
            Column.USERID: pa.array([1] * count, pa.int64()),
            Column.ITEMID: pa.array([1] * count, pa.int64()),
            Column.RATING: pa.array(ratings, pa.float32()),
            Column.TIMESTAMP: pa.array([0] * count, pa.int64()),
        }
    )
