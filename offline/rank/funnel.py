"""The served funnel on arrays: recall as Elasticsearch does it, then the blended order. Used to choose on `valid`."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_exchange_center.scoring import RECALL_SIZE, TERM_BOOST, VECTOR_BOOST, VECTOR_RECALL_SIZE, recall_scores

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """What recall hands to the ranking model: [users, RECALL_SIZE] each; `present` is False where there were fewer."""

    items: Ints
    recall: Floats
    present: Bools


def smallest(keys: Floats, k: int) -> Ints:
    """[rows, k] places of the k smallest keys of each row, in order."""
    if k >= keys.shape[1]:
        return np.argsort(keys, axis=1, kind="stable")
    first = np.argpartition(keys, k, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(keys, first, axis=1), axis=1, kind="stable")
    return np.take_along_axis(first, order, axis=1)


def recall_candidates(
    user_vectors: Floats,
    item_vectors: Floats,
    liked: Bools,
    flags: npt.NDArray[np.uint8],
    seen: Bools,
    popularity_rank: Ints,
) -> Candidates:
    """Terms and nearest vectors of a block of users, without the items seen.

    Args:
        user_vectors: [users, dim]; item_vectors: [items, dim].
        liked: [users, genres]; flags: [items, genres].
        seen: [users, items].
        popularity_rank: [items] 0 for the most popular: the order in which Elasticsearch returns hits that tie.
    """
    products = np.where(seen, -np.inf, user_vectors @ item_vectors.T).astype(np.float64)
    nearest = smallest(-products, RECALL_SIZE)
    sizes = np.where(liked.any(axis=1), VECTOR_RECALL_SIZE, RECALL_SIZE)
    by_vector = np.zeros(products.shape, bool)
    np.put_along_axis(by_vector, nearest, np.arange(nearest.shape[1]) < sizes[:, None], axis=1)
    by_vector &= ~seen
    by_term = (liked.astype(np.float32) @ flags.T.astype(np.float32) > 0) & ~seen

    with np.errstate(divide="ignore"):
        similarity = np.where(products >= 0, products + 1, 1 / (1 - np.minimum(products, 0)))
    es_scores = TERM_BOOST * by_term + VECTOR_BOOST * np.where(by_vector, similarity, 0)
    order = smallest(-es_scores + 1e-9 * popularity_rank, RECALL_SIZE)
    es, term, vector = (np.take_along_axis(matrix, order, axis=1) for matrix in (es_scores, by_term, by_vector))
    scores = np.stack([recall_scores(*row) for row in zip(es, term, vector, strict=True)])
    return Candidates(order, scores, term | vector)


def ndcg(items: Ints, scores: Floats, present: Bools, wanted: Bools, k: int) -> Floats:
    """NDCG@k of each user for binary relevance; positives that recall missed count in the ideal.

    Args:
        items, scores, present: [users, candidates].
        wanted: [users, items].
    """
    order = np.argsort(np.where(present, -scores, np.inf), axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(np.take_along_axis(wanted, items, axis=1) & present, order, axis=1)
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.r_[0.0, np.cumsum(gains)][np.minimum(wanted.sum(axis=1), k)]
    return (hits * gains[: hits.shape[1]]).sum(axis=1) / np.maximum(ideal, gains[0])
