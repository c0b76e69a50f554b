"""Term and vector recall on arrays, as Elasticsearch does it: the same scores, the same selection, the same ties."""

from dataclasses import dataclass

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray, Int64Array, UInt8Array
from data_exchange_center.elasticsearch_scores import elasticsearch_scores, recall_scores
from data_exchange_center.limits import RECALL_SIZE, VECTOR_RECALL_SIZE


@dataclass(frozen=True)
class CandidateBatch:
    """The candidates of some users, best first: [users, RECALL_SIZE] each.

    Attributes:
        items: places in the catalogue's arrays.
        scores: on the inner product's scale.
        by_term, by_vector: which recall found the item.
    """

    items: Int64Array
    scores: FloatArray
    by_term: BoolArray
    by_vector: BoolArray

    @property
    def present(self) -> BoolArray:
        """[users, RECALL_SIZE] whether there is a candidate."""
        return self.by_term | self.by_vector


def term_matches(liked: BoolArray, flags: UInt8Array) -> BoolArray:
    """[users, items] whether an item has a genre that the user likes, from [users, genres] and [items, genres]."""
    matches: BoolArray = liked.astype(np.float32) @ flags.T.astype(np.float32) > 0
    return matches


def recall_on_arrays(
    user_vectors: Float32Array,
    item_vectors: Float32Array,
    liked: BoolArray,
    flags: UInt8Array,
    seen: BoolArray,
    popularity_rank: Int64Array,
    by_vector_at_most: int | None = None,
) -> CandidateBatch:
    """Terms and nearest vectors of a block of users, without the items seen.

    Args:
        user_vectors: [users, dim]; a row of zeros has no nearest items.
        item_vectors: [items, dim].
        liked: [users, genres]; flags: [items, genres].
        seen: [users, items].
        popularity_rank: [items] 0 for the most popular: the order in which Elasticsearch returns hits that tie.
        by_vector_at_most: how many the vector finds; VECTOR_RECALL_SIZE for users with terms, unless given.
    """
    products = user_vectors @ item_vectors.T
    by_term = term_matches(liked, flags) & ~seen
    has_vector = user_vectors.any(axis=1, keepdims=True)
    size = np.where(liked.any(axis=1), by_vector_at_most or VECTOR_RECALL_SIZE, RECALL_SIZE)
    nearest = _largest(np.where(seen, -np.inf, products).astype(np.float32), popularity_rank, RECALL_SIZE)
    by_vector = np.zeros(products.shape, bool)
    np.put_along_axis(by_vector, nearest, np.arange(nearest.shape[1]) < size[:, None], axis=1)
    by_vector &= ~seen & has_vector
    found = by_term | by_vector
    scores = elasticsearch_scores(products, by_term, by_vector)
    order = _largest(np.where(found, scores, -np.inf).astype(np.float32), popularity_rank, RECALL_SIZE)
    scored, term, vector = (np.take_along_axis(matrix, order, axis=1) for matrix in (scores, by_term, by_vector))
    return CandidateBatch(order, recall_scores(scored, term, vector), term, vector)


def _largest(values: Float32Array, tie_rank: Int64Array, k: int) -> Int64Array:
    """[rows, k] places of the k largest values of each row, best first; of equal ones the smaller tie_rank first.

    A float32 and the rank of its place make one whole number that no other place of the row has. A partition of those
    is exact, and costs a fraction of sorting whole rows.
    """
    bits = (0.0 - values).astype(np.float32).view(np.int32)  # 0.0 - x, so that there is one zero
    ascending = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    keys = (ascending << 32) | tie_rank
    if k < keys.shape[1]:
        first = np.argpartition(keys, k, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(keys, first, axis=1), axis=1)
        return np.take_along_axis(first, order, axis=1)
    return np.argsort(keys, axis=1)
