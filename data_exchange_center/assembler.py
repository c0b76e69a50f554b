"""Puts the features of users and of candidates together in the declared order.

The server, the consistency check and the making of the ranker's training lists all call this one function.
"""

from typing import NamedTuple

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray, Int64Array, IntArray
from data_exchange_center.features import DENSE_COLUMNS, SPARSE_COLUMNS, entity_columns
from data_exchange_center.recall_features import recall_features

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


class RankingInputs(NamedTuple):
    """The ranking model's inputs for b requests of m candidates each, in the order of triton_models.RANKER.

    Attributes:
        sparse, dense: [b, m, 23] int64 and [b, m, 36] float32 of `assemble`.
        recall: [b, m, 5] float32 of `recall_features`.
        recent, liked: [b, RANKER_IMPRESSIONS] int64 of `user_state.sequences`.
    """

    sparse: Int64Array
    dense: Float32Array
    recall: Float32Array
    recent: Int64Array
    liked: Int64Array


def ranking_inputs(
    users: IntArray,
    items: IntArray,
    recalled: tuple[FloatArray, BoolArray, BoolArray],
    recent: tuple[Int64Array, Int64Array],
) -> RankingInputs:
    """The ranking model's inputs.

    Args:
        users: [b, 40] values of USER_COLUMNS.
        items: [b, m, 19] values of ITEM_COLUMNS.
        recalled: [b, m] recall scores, and which recall found the candidate: by term, by vector.
        recent: [b, RANKER_IMPRESSIONS] item indices and likes of the users' last impressions.
    """
    lists, width = items.shape[:2]
    sparse, dense = assemble(np.repeat(users, width, axis=0), items.reshape(lists * width, items.shape[2]))
    return RankingInputs(
        sparse.reshape(lists, width, sparse.shape[1]),
        dense.reshape(lists, width, dense.shape[1]),
        recall_features(*recalled),
        *recent,
    )
