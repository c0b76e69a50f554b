"""What a retrieval finds of each user's held-out positives: recall over the whole catalogue, and NDCG of a list."""

import numpy as np
import scipy.sparse as sp
import torch

from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, FloatArray, Int64Array
from offline.distributed import gathered
from offline.recall.interactions import Interactions

USERS_AT_A_TIME = 1024


def top_items(
    user_vectors: Float32Array, item_vectors: Float32Array, users: Int64Array, seen: sp.csr_matrix, k: int
) -> Int64Array:
    """[n, k] exact nearest item indices by inner product, items in `seen` and the unknown one left out."""
    scores = torch.from_numpy(user_vectors[users]) @ torch.from_numpy(item_vectors).T
    own = seen[users].tocoo()
    scores[torch.from_numpy(own.row.astype(np.int64)), torch.from_numpy(own.col.astype(np.int64))] = -torch.inf
    scores[:, 0] = -torch.inf
    result: Int64Array = torch.topk(scores, min(k, scores.shape[1] - 1)).indices.numpy()
    return result


def recall_by_user(
    user_vectors: Float32Array,
    item_vectors: Float32Array,
    seen: Interactions,
    held_out: Interactions,
    ks: tuple[int, ...],
) -> tuple[Int64Array, dict[int, Float64Array]]:
    """Recall@k over the whole catalogue, items in `seen` filtered, of each user with a held-out positive.

    A held-out item outside the vocabulary counts as a positive that was not found. Of several processes each searches
    for its own users, and all get the whole.

    Returns:
        [n] user indices; [n] recall of each for each k.
    """
    positives = held_out.positives()
    relevant_count = np.bincount(positives.users, minlength=positives.user_count)
    relevant, filtered = positives.matrix(), seen.matrix()
    users = np.flatnonzero(relevant_count)
    found = np.zeros((len(users), len(ks)))
    for first in range(0, len(users), USERS_AT_A_TIME):
        block = users[first : first + USERS_AT_A_TIME]
        top = top_items(user_vectors, item_vectors, block, filtered, max(ks))
        hits = np.take_along_axis(relevant[block].toarray(), top, axis=1)
        found[first : first + len(block)] = np.stack([hits[:, :k].sum(1) for k in ks], axis=1)
    recall = found / relevant_count[users, None]
    users, recall = gathered(users), gathered(recall)
    return users, {k: recall[:, place] for place, k in enumerate(ks)}


def recall_at(
    user_vectors: Float32Array,
    item_vectors: Float32Array,
    seen: Interactions,
    held_out: Interactions,
    ks: tuple[int, ...],
) -> dict[int, float]:
    """The mean of `recall_by_user`; 0 where no user has a held-out positive."""
    users, recall = recall_by_user(user_vectors, item_vectors, seen, held_out, ks)
    return {k: float(values.mean()) if len(users) else 0.0 for k, values in recall.items()}


def ndcg(items: Int64Array, scores: FloatArray, present: BoolArray, relevant: BoolArray, k: int) -> FloatArray:
    """[users] NDCG@k for binary relevance; positives that recall missed count in the ideal list.

    Args:
        items, scores, present: [users, candidates]; places of the items in `relevant`, their scores, and whether there
            is a candidate at all.
        relevant: [users, items].
        k: length of the list.
    """
    order = np.argsort(np.where(present, -scores, np.inf), axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(np.take_along_axis(relevant, items, axis=1) & present, order, axis=1)
    return ndcg_of_hits(hits, relevant.sum(axis=1), k)


def ndcg_of_hits(hits: BoolArray, relevant: Int64Array, k: int) -> FloatArray:
    """[lists] NDCG@k for binary relevance.

    Args:
        hits: [lists, places] whether what stands at a place, best first, is a positive.
        relevant: [lists] how many positives there are, in the list or not; they count in the ideal list.
        k: length of the list.
    """
    hits = hits[:, :k]
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.r_[0.0, np.cumsum(gains)][np.minimum(relevant, k)]
    return (hits * gains[: hits.shape[1]]).sum(axis=1) / np.maximum(ideal, gains[0])
