"""What the ranker knows of items without fitting it to lists: counted on the rows that recall was fitted to alone."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from data_exchange_center.arrays import Float32Array, Int32Array, Int64Array
from offline.distributed import counted, gathered
from offline.recall.interactions import Interactions

NEIGHBOURS = 64  # followers kept of each item
FOLLOW_WINDOW = 10  # impressions that count as following
SHRINKAGE = 20.0  # impressions' worth of doubt about what follows an item


@dataclass(frozen=True)
class ItemKnowledge:
    """What is counted or was fitted, per item, on the rows that recall was fitted to, and on no others.

    Attributes:
        vectors: [items, dim + 1] the tower's, the bias last.
        fm_users, fm_items: [users, k], [items, k] the retrieval FM's vectors.
        counts, positives: [items] impressions and positives.
        neighbours, probabilities: [items, NEIGHBOURS] what most often follows each item, and how probably.
    """

    vectors: Float32Array
    fm_users: Float32Array
    fm_items: Float32Array
    counts: Float32Array
    positives: Float32Array
    neighbours: Int32Array
    probabilities: Float32Array

    @cached_property
    def popularity_rank(self) -> Int64Array:
        """[items] places by descending positives, ties by item index; the unknown item's is the last."""
        rank = np.full(len(self.positives), len(self.positives) - 1)
        rank[1:] = np.argsort(np.argsort(-self.positives[1:], kind="stable"), kind="stable")
        return rank

    def embeddings(self) -> Float32Array:
        """[items, dim] a copy of the tower's vectors without the bias."""
        return self.vectors[:, :-1].copy()


def empty_knowledge(users: int, items: int, vector_dim: int, fm_dim: int) -> ItemKnowledge:
    """Tables of those sizes, for a state dict to fill.

    Args:
        users, items: sizes of the vocabularies, unknown counted.
        vector_dim: of the tower's item vectors without their bias.
        fm_dim: of the retrieval FM's vectors.
    """
    return ItemKnowledge(
        vectors=np.zeros((items, vector_dim + 1), np.float32),
        fm_users=np.zeros((users, fm_dim), np.float32),
        fm_items=np.zeros((items, fm_dim), np.float32),
        counts=np.zeros(items, np.float32),
        positives=np.zeros(items, np.float32),
        neighbours=np.zeros((items, NEIGHBOURS), np.int32),
        probabilities=np.zeros((items, NEIGHBOURS), np.float32),
    )


def knowledge_of(
    rows: Interactions, vectors: Float32Array, fm_vectors: tuple[Float32Array, Float32Array]
) -> ItemKnowledge:
    """What is known after the rows that recall was fitted to.

    Args:
        rows: those, in the split's order; of several processes each counts those of its users.
        vectors: [items, dim + 1] the tower's.
        fm_vectors: the retrieval FM's, of users and of items.
    """
    counts = counted(np.bincount(rows.items, minlength=rows.item_count))
    positives = counted(np.bincount(rows.items, rows.labels, rows.item_count))
    return ItemKnowledge(
        vectors,
        *fm_vectors,
        counts.astype(np.float32),
        positives.astype(np.float32),
        *followers(rows.users, rows.items, rows.item_count),
    )


def followers(users: Int64Array, items: Int64Array, item_count: int) -> tuple[Int32Array, Float32Array]:
    """What follows each item within FOLLOW_WINDOW impressions of the same user.

    Args:
        users, items: [n] of the impressions, by (user, time).
        item_count: size of the vocabulary.

    Returns:
        [item_count, NEIGHBOURS] indices, 0 where there are fewer; their probabilities, shrunk where an item is rare.
    """
    counts = sp.csr_matrix((item_count, item_count), dtype=np.float32)
    for lag in range(1, min(FOLLOW_WINDOW, len(items) - 1) + 1):
        same = users[lag:] == users[:-lag]
        ones = np.ones(int(same.sum()), np.float32)
        counts += sp.csr_matrix((ones, (items[:-lag][same], items[lag:][same])), counts.shape)
    pairs = counts.tocoo()
    places = gathered(pairs.row), gathered(pairs.col)
    counts = sp.csr_matrix((gathered(pairs.data), places), counts.shape)  # pairs of several processes are added up
    counts.data[counts.indices == 0] = 0
    counts.eliminate_zeros()
    total = np.asarray(counts.sum(axis=1)).ravel()
    row = np.repeat(np.arange(item_count), np.diff(counts.indptr))
    order = np.lexsort((-counts.data, row))
    place = np.arange(len(row)) - np.repeat(counts.indptr[:-1], np.diff(counts.indptr))
    kept = place < NEIGHBOURS
    neighbours = np.zeros((item_count, NEIGHBOURS), np.int32)
    probabilities = np.zeros((item_count, NEIGHBOURS), np.float32)
    at = row[kept], place[kept]
    neighbours[at] = counts.indices[order][kept]
    probabilities[at] = counts.data[order][kept] / (total[at[0]] + SHRINKAGE)
    neighbours[0], probabilities[0] = 0, 0  # what follows the unknown item says nothing
    return neighbours, probabilities
