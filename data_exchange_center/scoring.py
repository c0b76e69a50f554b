"""The arithmetic that both the choice of the blend weight (offline) and the server (online) must share."""

from typing import Any

import numpy as np
import numpy.typing as npt

RECALL_SIZE = 200  # candidates a request hands to the ranking model
VECTOR_RECALL_SIZE = 150  # of which at most so many come from the vectors where a user has terms, which fill up
TERM_BOOST = 0.1
VECTOR_BOOST = 0.9
SMALLEST = float(np.finfo(np.float32).tiny)

Floats = npt.NDArray[np.floating[Any]]


def recall_scores(es_scores: Floats, by_term: npt.NDArray[np.bool_], by_vector: npt.NDArray[np.bool_]) -> Floats:
    """What Elasticsearch's scores say on the scale of the model's own, the inner product's.

    Elasticsearch adds TERM_BOOST for a hit of the terms query to VECTOR_BOOST × s for a hit of the kNN query, where
    s = x + 1 for an inner product x >= 0 and 1 / (1 - x) below 0 (its `max_inner_product` similarity). Here s is taken
    back to x, so that a negative x weighs as much as a positive one; the two boosts keep their ratio.

    Args:
        es_scores: [n] `_score` of the hits.
        by_term, by_vector: [n] which query found the hit.

    Returns:
        [n] x, plus TERM_BOOST / VECTOR_BOOST for what the terms query found. A hit of the terms query alone has no
        known x; it is not among the nearest, so the smallest x of those stands for it, 0 when there are none.
    """
    similarity = np.maximum((es_scores - TERM_BOOST * by_term) / VECTOR_BOOST, SMALLEST)
    product = np.where(similarity >= 1, similarity - 1, 1 - 1 / similarity)
    floor = product[by_vector].min() if by_vector.any() else 0.0
    scores: Floats = np.where(by_vector, product, floor) + TERM_BOOST / VECTOR_BOOST * by_term
    return scores


def final_scores(logits: Floats, recall: Floats, weight: float) -> Floats:
    """DeepFM's logit × weight + the recall score; shapes broadcast."""
    return logits * weight + recall
