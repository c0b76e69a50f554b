"""Fields of the artefacts' schemas that are declared many at a time."""

import pyarrow as pa

from data_exchange_center.columns import Column


def fields(names: tuple[str, ...], kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """Fields of one type."""
    return [(name, kind) for name in names]


def feature_fields(names: tuple[str, ...]) -> list[tuple[str, pa.DataType]]:
    """Indices in 32 bits, flags and counts in 8: the training frame is a quarter of its size in 64."""
    wide = (Column.USER_INDEX, Column.ITEM_INDEX)
    return [(name, pa.int32() if name in wide else pa.uint8()) for name in names]
