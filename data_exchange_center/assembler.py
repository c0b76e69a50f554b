"""Puts the features of a user and of some items together in the declared order.

The server, the consistency check and the funnel that the blend is chosen on all call this one function.
"""

import numpy as np

from data_exchange_center.arrays import Float32Array, Int64Array, IntArray
from data_exchange_center.features import DENSE_COLUMNS, SPARSE_COLUMNS, entity_columns

USER_COLUMNS = entity_columns("user")
ITEM_COLUMNS = entity_columns("item")

Block = tuple[slice, slice]  # columns of the model's input, and the same columns of an entity

UNKNOWN_USER: Int64Array = np.zeros(len(USER_COLUMNS), np.int64)
UNKNOWN_ITEM: Int64Array = np.zeros(len(ITEM_COLUMNS), np.int64)


def _blocks(inputs: tuple[str, ...], entity: tuple[str, ...]) -> list[Block]:
    """Runs of columns that stand in the same order in both, so that each run is copied as a whole."""
    blocks: list[Block] = []
    for target, name in enumerate(inputs):
        if name not in entity:
            continue
        source = entity.index(name)
        if blocks and (blocks[-1][0].stop, blocks[-1][1].stop) == (target, source):
            blocks[-1] = slice(blocks[-1][0].start, target + 1), slice(blocks[-1][1].start, source + 1)
        else:
            blocks.append((slice(target, target + 1), slice(source, source + 1)))
    return blocks


_SPARSE = _blocks(SPARSE_COLUMNS, USER_COLUMNS), _blocks(SPARSE_COLUMNS, ITEM_COLUMNS)
_DENSE = _blocks(DENSE_COLUMNS, USER_COLUMNS), _blocks(DENSE_COLUMNS, ITEM_COLUMNS)


def assemble(user: IntArray, items: IntArray) -> tuple[Int64Array, Float32Array]:
    """The model's two inputs for one user and n items.

    Args:
        user: [..., 40] values of USER_COLUMNS; one row, or a row for each item.
        items: [n, 19] values of ITEM_COLUMNS.

    Returns:
        sparse [n, 23] int64 and dense [n, 36] float32.
    """
    sparse = np.empty((len(items), len(SPARSE_COLUMNS)), np.int64)
    dense = np.empty((len(items), len(DENSE_COLUMNS)), np.float32)
    for inputs, (user_blocks, item_blocks) in ((sparse, _SPARSE), (dense, _DENSE)):
        for target, source in user_blocks:
            inputs[:, target] = user[..., source]
        for target, source in item_blocks:
            inputs[:, target] = items[:, source]
    return sparse, dense
