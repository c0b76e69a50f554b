"""Training lists for the ranker: the candidates that the funnel would have served, and what the user liked next.

The recall that makes a list was fitted before the rows that label it. A list is cut every CUT_EVERY rows of a user's
block of rows: its state (sequence, history window, items seen) is that just before the cut.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from data_exchange_center.arrays import BoolArray, Float32Array, Int64Array
from data_exchange_center.assembler import ITEM_COLUMNS, USER_COLUMNS, assemble
from data_exchange_center.columns import Column
from data_exchange_center.features import GENRE_FLAGS, HISTORY_COUNTS
from data_exchange_center.limits import RECENT_IMPRESSIONS
from data_exchange_center.recall_features import recall_features
from data_exchange_center.tables import to_matrix
from data_exchange_center.user_state import liked_genres
from offline.rank.ranker import Ranker
from offline.rank.ranker_training import TrainingLists
from offline.recall.array_recall import CandidateBatch, recall_on_arrays
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import user_vectors
from offline.recall.sequences import Sequences

CUT_EVERY = 10  # rows
HORIZON = 10  # rows after the cut whose positives are relevant
MOST_LISTS = 20_000
LISTS_AT_A_TIME = 256


@dataclass(frozen=True)
class Rows:
    """The offline rows in the split's order, and the catalogue by item_index.

    Attributes:
        sequences: of all offline rows.
        user_features: the training frame, whose row i holds the user's features just before impression i.
        items: [items + 1, 19] values of ITEM_COLUMNS, zeros for the unknown item; flags: [items + 1, genres].
    """

    sequences: Sequences
    user_features: pa.Table
    items: Int64Array
    flags: Int64Array


def catalogue_features(item_features: pa.Table, item_count: int) -> tuple[Int64Array, Int64Array]:
    """[item_count, 19] features and [item_count, genres] flags by item_index."""
    index = item_features[Column.ITEM_INDEX].to_numpy()
    known = index > 0
    items = np.zeros((item_count, len(ITEM_COLUMNS)), np.int64)
    items[index[known]] = to_matrix(item_features, ITEM_COLUMNS, np.int64)[known]
    flags = np.zeros((item_count, len(GENRE_FLAGS)), np.uint8)
    flags[index[known]] = to_matrix(item_features, GENRE_FLAGS)[known]
    return items, flags
