"""Elasticsearch's arithmetic of scores, and the way back to the inner product.

A hit of the kNN query scores VECTOR_BOOST × s, where s = x + 1 for an inner product x >= 0 and 1 / (1 - x) below 0:
that is Elasticsearch's `max_inner_product` similarity, which keeps scores positive. A hit of the terms query scores
TERM_BOOST. What both queries find scores the sum. The caller of Elasticsearch translates scores back as they arrive,
so that everything behind it knows the inner product's scale alone, where a negative x weighs as much as a positive one.
"""

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, FloatArray

TERM_BOOST = 0.1
VECTOR_BOOST = 0.9
TERM_BONUS = TERM_BOOST / VECTOR_BOOST  # what a hit of the terms query adds on the inner product's scale
SMALLEST_SIMILARITY = float(np.finfo(np.float32).tiny)  # Elasticsearch's float32 may round 1 / (1 - x) down to 0


def elasticsearch_scores(products: FloatArray, by_term: BoolArray, by_vector: BoolArray) -> Float32Array:
    """The `_score` of hits, in the float32 in which Elasticsearch computes it: hits that tie there, tie here.

    Args:
        products: [...] inner products x of the user's vector with the items'; -inf is allowed.
        by_term, by_vector: [...] which query finds the item.

    Returns:
        [...] scores; 0 for what neither query finds.
    """
    x = products.astype(np.float32, copy=False)
    similarity = np.where(x >= 0, x + 1, 1 / (1 - np.minimum(x, 0)))
    scores = by_vector * similarity * np.float32(VECTOR_BOOST) + by_term * np.float32(TERM_BOOST)
    return scores.astype(np.float32, copy=False)


def recall_scores(es_scores: FloatArray, by_term: BoolArray, by_vector: BoolArray) -> Float64Array:
    """Elasticsearch's scores translated to the scale of the inner product.

    Args:
        es_scores: [..., n] `_score` of the n hits of each search.
        by_term, by_vector: [..., n] which query found the hit.

    Returns:
        [..., n] x, plus TERM_BONUS for what the terms query found. A hit of the terms query alone has no known x; it is
        not among the nearest, so the smallest x of those stands for it, 0 when there are none.
    """
    scores = es_scores.astype(np.float64, copy=False)
    similarity = np.maximum((scores - TERM_BOOST * by_term) / VECTOR_BOOST, SMALLEST_SIMILARITY)
    products = np.where(similarity >= 1, similarity - 1, 1 - 1 / similarity)
    smallest = np.min(products, axis=-1, keepdims=True, where=by_vector, initial=np.inf)
    floor = np.where(np.isfinite(smallest), smallest, 0.0)
    translated: Float64Array = np.where(by_vector, products, floor) + TERM_BONUS * by_term
    return translated
