"""From named columns to a matrix and back, and from a key to its row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_exchange_center.arrays import Int64Array


def to_matrix(table: pa.Table, names: Sequence[str], dtype: Any = None) -> npt.NDArray[Any]:
    """[rows, names] the columns side by side.

    Args:
        table: holds the columns.
        names: in the order of the matrix's columns.
        dtype: of the matrix; that of the columns unless given.
    """
    first = table[names[0]].to_numpy()
    matrix = np.empty((len(table), len(names)), dtype or first.dtype)
    for place, name in enumerate(names):
        matrix[:, place] = table[name].to_numpy()
    return matrix


def from_matrix(names: Sequence[str], matrix: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """The columns of a [rows, names] matrix by name."""
    return {name: np.ascontiguousarray(matrix[:, place]) for place, name in enumerate(names)}


def side_by_side(*tables: pa.Table) -> pa.Table:
    """Tables that the catalogue declares as aligned, as one; a column that two share is taken from the first."""
    columns: dict[str, pa.ChunkedArray] = {}
    for table in tables:
        for name in table.column_names:
            columns.setdefault(name, table[name])
    return pa.table(columns)


def rows_by_key(table: pa.Table, key: str, ids: Int64Array) -> pa.Table:
    """The table's row for each id; the table is sorted by `key` and holds every id."""
    return table.take(pa.array(np.searchsorted(table[key].to_numpy(), ids)))
