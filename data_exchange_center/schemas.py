"""Fields of the artefacts' schemas that are declared many at a time, or in more than one table."""

import pyarrow as pa

from data_exchange_center.columns import Column
from data_exchange_center.dataset import DatasetDocument

Field = tuple[str, pa.DataType]

IMPRESSION: list[Field] = [
    (Column.USERID, pa.int64()),
    (Column.ITEMID, pa.int64()),
    (Column.USER_INDEX, pa.int32()),
    (Column.ITEM_INDEX, pa.int32()),
    (Column.RATING, pa.float32()),
    (Column.TIMESTAMP, pa.int64()),
    (Column.LABEL, pa.uint8()),
]
SIMILAR: list[Field] = [(Column.SIMILAR_ITEMS, pa.list_(pa.int64())), (Column.SIMILAR_SCORES, pa.list_(pa.float32()))]


def fields(names: tuple[str, ...], kind: pa.DataType) -> list[Field]:
    """Fields of one type."""
    return [(name, kind) for name in names]


def external_field(dataset: DatasetDocument, key: str, name: str) -> list[Field]:
    """The column `name` of the ids as they came, where those of `key` are text."""
    return [(name, pa.string())] if key in dataset.text_ids else []


def feature_fields(names: tuple[str, ...]) -> list[Field]:
    """Indices in 32 bits, flags and counts in 8: the training frame is a quarter of its size in 64."""
    wide = (Column.USER_INDEX, Column.ITEM_INDEX)
    return [(name, pa.int32() if name in wide else pa.uint8()) for name in names]
