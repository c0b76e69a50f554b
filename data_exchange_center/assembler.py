"""Puts the features of users and of candidates together in the declared order.

The server, the consistency check and the making of the ranker's training lists all call this one function.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray, Int64Array, IntArray
from data_exchange_center.features import FeatureSet
from data_exchange_center.recall_features import recall_features

Block = tuple[slice, slice]  # columns of the model's input, and the same columns of an entity


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


def unknown_user(features: FeatureSet) -> Int64Array:
    """[40] the features of a user of whom nothing is known."""
    return np.zeros(len(features.user_columns), np.int64)


@cache
def _blocks_of(features: FeatureSet) -> tuple[tuple[list[Block], list[Block]], tuple[list[Block], list[Block]]]:
    """The blocks of a user and of an item, in the sparse and in the dense input."""
    sparse, dense = (
        (_blocks(columns, features.user_columns), _blocks(columns, features.item_columns))
        for columns in (features.sparse_columns, features.dense_columns)
    )
    return sparse, dense


def assemble(features: FeatureSet, user: IntArray, items: IntArray) -> tuple[Int64Array, Float32Array]:
    """The model's two inputs for one user and n items. The sizes below are those of MovieLens's 59 features.

    Args:
        features: of the data set.
        user: [..., 40] values of `features.user_columns`; one row, or a row for each item.
        items: [n, 19] values of `features.item_columns`.

    Returns:
        sparse [n, 23] int64 and dense [n, 36] float32.
    """
    sparse = np.empty((len(items), len(features.sparse)), np.int64)
    dense = np.empty((len(items), len(features.dense)), np.float32)
    of_sparse, of_dense = _blocks_of(features)
    for inputs, (user_blocks, item_blocks) in ((sparse, of_sparse), (dense, of_dense)):
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
    features: FeatureSet,
    users: IntArray,
    items: IntArray,
    recalled: tuple[FloatArray, BoolArray, BoolArray],
    recent: tuple[Int64Array, Int64Array],
) -> RankingInputs:
    """The ranking model's inputs.

    Args:
        features: of the data set.
        users: [b, 40] values of `features.user_columns`.
        items: [b, m, 19] values of `features.item_columns`.
        recalled: [b, m] recall scores, and which recall found the candidate: by term, by vector.
        recent: [b, RANKER_IMPRESSIONS] item indices and likes of the users' last impressions.
    """
    lists, width = items.shape[:2]
    sparse, dense = assemble(features, np.repeat(users, width, axis=0), items.reshape(lists * width, items.shape[2]))
    return RankingInputs(
        sparse.reshape(lists, width, sparse.shape[1]),
        dense.reshape(lists, width, dense.shape[1]),
        recall_features(*recalled),
        *recent,
    )
