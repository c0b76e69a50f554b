"""What the ranking model is told of the recall that found a candidate: training and the server share the function."""

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray

SMALLEST_DEVIATION = 1e-6
# Candidates whose scores are closer stand before each other in part, by how far apart they are: so a place is a
# continuous function of the scores, and what rounding does to near ties does next to nothing to the ranking.
NEAR_TIE = 0.02


def recall_features(scores: FloatArray, by_term: BoolArray, by_vector: BoolArray) -> Float32Array:
    """The RECALL_FEATURES (features.py) of lists of candidates.

    `gap` is the distance from the list's best score, `z` the standardised score, `log_rank` the logarithm of the place.
    All are relative to the list: the recall that is served is fitted to more rows than the one that made the training
    lists, and what it scores higher or lower throughout changes nothing.

    Args:
        scores: [..., candidates] recall scores.
        by_term, by_vector: [..., candidates] which recall found the candidate; what neither found is none.

    Returns:
        [..., candidates, 5]; zeros where there is no candidate.
    """
    present = by_term | by_vector
    count = np.maximum(present.sum(axis=-1, keepdims=True), 1)
    known = np.where(present, scores, 0.0)
    centred = np.where(present, scores - known.sum(axis=-1, keepdims=True) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(axis=-1, keepdims=True) / count)
    best = np.max(scores, axis=-1, keepdims=True, where=present, initial=-np.inf)
    single = centred.astype(np.float32)
    ahead = np.clip((single[..., None, :] - single[..., :, None]) / np.float32(NEAR_TIE) + np.float32(0.5), 0, 1)
    rank = np.maximum((ahead * present[..., None, :]).sum(axis=-1) - 0.5, 0)  # less its own half
    columns = (
        np.where(present, scores - np.where(np.isfinite(best), best, 0.0), 0.0),
        centred / (deviation + SMALLEST_DEVIATION),
        np.log1p(rank) * present,
        by_term,
        by_vector,
    )
    return np.stack(columns, axis=-1).astype(np.float32)
