"""Trades relevance for diversity: maximal marginal relevance over the items' vectors.

Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998.
"""

import numpy as np

from data_exchange_center.arrays import Float32Array, FloatArray, Int64Array

# Of the settings tried on `valid` the largest that loses at most 1 % of NDCG@50: 0.5 % (0.2 % to 0.8 %) of the
# generated data's. See benchmarks/quality/diversity.py.
DEFAULT_DIVERSITY = 0.1
ROWS_AT_A_TIME = 16  # 16 x 200 x 64 products; OpenBLAS takes threads from four times 65,536 on


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
    if not count:
        return np.empty(0, np.int64)
    span = float(scores[0] - scores[-1])
    relevance = (scores - scores[-1]) / span if span else np.zeros(len(scores))
    # [n, n] what the item of the column is worth once that of the row stands in the list, as far as those two go. What
    # it is worth at last is the least over the rows of the items that do.
    worth = (relevance * (1 - diversity)).astype(np.float32) - np.float32(diversity) * _products(vectors)
    best, chosen = 0, np.zeros(count, np.int64)
    left = worth[0].copy()
    left[0] = -np.inf
    for place in range(1, count):
        chosen[place] = best = int(left.argmax())
        np.minimum(left, worth[best], out=left)
        left[best] = -np.inf
    return chosen


def _products(vectors: Float32Array) -> Float32Array:
    """[n, n] the inner products of all pairs.

    In blocks, each too small for BLAS to share out among threads: under load these wait for each other for many times
    as long as the work takes.
    """
    products = np.empty((len(vectors), len(vectors)), np.float32)
    for start in range(0, len(vectors), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        np.matmul(vectors[rows], vectors.T, out=products[rows])
    return products
