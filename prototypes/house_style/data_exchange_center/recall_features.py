"""What the ranking model is told of the recall that found a candidate; training and the server call this one function."""

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray

RECALL_FEATURES = ("gap", "z", "log_rank", "by_term", "by_vector")


def recall_features(scores: FloatArray, by_term: BoolArray, by_vector: BoolArray) -> Float32Array:
    """[..., candidates, 5] RECALL_FEATURES of lists of candidates.

    All are relative to the list: the recall that is served is fitted to more rows than the one that made the training
    lists, and what it scores higher or lower throughout changes nothing.

    Args:
        scores: [..., candidates] recall scores.
        by_term, by_vector: [..., candidates] which recall found the candidate.
    """
    centred = scores - scores.mean(axis=-1, keepdims=True)
    z = centred / (scores.std(axis=-1, keepdims=True) + 1e-6)
    rank = np.argsort(np.argsort(-scores, axis=-1, kind="stable"), axis=-1)
    gap = scores - scores.max(axis=-1, keepdims=True)
    return np.stack([gap, z, np.log1p(rank), by_term, by_vector], axis=-1).astype(np.float32)
