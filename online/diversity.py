"""Trades relevance for diversity: maximal marginal relevance over the items' vectors.

Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998.
"""

import numpy as np

from data_exchange_center.arrays import Float32Array, FloatArray, Int64Array

# Of the settings tried on `valid` the largest that loses at most 1 % of NDCG@50: 0.5 % (0.2 % to 0.8 %) of the
# generated data's. See benchmarks/quality/diversity.py.
DEFAULT_DIVERSITY = 0.1


def directions(vectors: Float32Array) -> Float32Array:
    """[n, dim] vectors of length 1 that point where the item vectors [n, dim + 1] do, their bias left out.

    A vector of zeros, which stands for an item that the model does not know, stays one: it is like no other.
    """
    plain = vectors[:, :-1]
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    found: Float32Array = plain / np.maximum(lengths, np.float32(1e-12))
    return found


def diversified(scores: FloatArray, vectors: Float32Array, diversity: float, size: int) -> Int64Array:
    """[at most size] places of the items of a diverse list, best first.

    Each item is the one with the largest (1 - diversity) * relevance - diversity * likeness among those that are left.
    Relevance is the score on a scale from 0, of the least of the n scores, to 1, of the best; likeness is the largest
    cosine with an item that stands in the list already. The first item is therefore the best one.

    Args:
        scores: [n] in descending order, so that of equal items the earlier is taken.
        vectors: [n, dim] of `directions`.
        diversity: from 0, the order of the scores, to 1, which looks at the vectors alone.
        size: of the list.
    """
    count = min(size, len(scores))
    span = float(scores[0] - scores[-1]) if count else 0.0
    relevance = ((scores - scores[-1]) / span if span else np.zeros(len(scores))).astype(np.float32)
    weight, value = np.float32(diversity), relevance * np.float32(1 - diversity)
    most_alike, chosen = np.full(len(scores), -np.inf, np.float32), np.empty(count, np.int64)
    for place in range(count):
        best = int(np.argmax(value - most_alike)) if place else 0
        chosen[place] = best
        # No BLAS, which would share out so little work among threads, and wait for them longer than it takes.
        likeness = np.einsum("ij,j->i", vectors, vectors[best]) * weight
        np.maximum(most_alike, likeness, out=most_alike)
        value[best] = -np.inf
    return chosen
