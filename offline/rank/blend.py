"""The weight of DeepFM's logit in the final score, chosen on `valid` for the whole funnel."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch

from data_exchange_center.arrays import BoolArray, Float32Array, FloatArray, Int64Array, UInt8Array
from data_exchange_center.assembler import ITEM_COLUMNS, USER_COLUMNS, assemble
from data_exchange_center.columns import Column, Split
from data_exchange_center.documents import BlendTrial
from data_exchange_center.features import GENRE_FLAGS, HISTORY_COUNTS
from data_exchange_center.scoring import final_scores
from data_exchange_center.tables import to_matrix
from data_exchange_center.user_state import liked_genres, window_counts
from offline.metrics import Bootstrap, interval
from offline.rank.deepfm import DeepFM
from offline.rank.training import Rows, score
from offline.recall.array_recall import recall_on_arrays
from offline.retrieval_metrics import ndcg

WEIGHTS_TRIED = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
USERS = 8192
USERS_AT_A_TIME = 256
K = 50

Vectors = tuple[Float32Array, Float32Array]


@dataclass(frozen=True)
class ValidFunnel:
    """The funnel as it stood after the train rows, for the users with a positive in valid.

    Attributes:
        users: [users] their indices.
        user_features: [users, 40] values of USER_COLUMNS.
        liked: [users, genres].
        items: [items, 19] values of ITEM_COLUMNS; flags: [items, genres]; popularity_rank: [items].
        seen, relevant: [all users, items] items of the train rows, and positives of the valid rows.
    """

    users: Int64Array
    user_features: Int64Array
    liked: BoolArray
    items: Int64Array
    flags: UInt8Array
    popularity_rank: Int64Array
    seen: sp.csr_matrix
    relevant: sp.csr_matrix


def funnel_on_valid(frame: pa.Table, item_features: pa.Table, seed: int) -> ValidFunnel:
    """The state of users and items after the train rows.

    Args:
        frame: catalogue entry TRAINING_FRAME; its user_index rises.
        item_features: catalogue entry ITEM_FEATURES.
        seed: draws the users where there are more than USERS.
    """
    user, item = (frame[name].to_numpy().astype(np.int64) for name in (Column.USER_INDEX, Column.ITEM_INDEX))
    split, labels = frame[Column.SPLIT].to_numpy(), frame[Column.LABEL].to_numpy()
    train, relevant = split == Split.TRAIN, (split == Split.VALID) & (labels == 1)
    users = np.unique(user[relevant & (item > 0)])
    users = np.sort(np.random.default_rng(seed).permutation(users)[:USERS])

    known = item_features.filter(pa.array(item_features[Column.ITEM_INDEX].to_numpy() > 0)).sort_by(Column.ITEM_INDEX)
    positives = np.bincount(item[train & (labels == 1)], minlength=len(known) + 1)[1:]

    first = np.searchsorted(user, users)
    ends = first + np.bincount(user[train], minlength=user.max(initial=0) + 1)[users]
    counts = window_counts(to_matrix(frame, GENRE_FLAGS), labels, first, ends)
    history = dict(zip(HISTORY_COUNTS, counts.T, strict=True))
    user_features = [history.get(name, frame[name].to_numpy()[first]) for name in USER_COLUMNS]
    shape = (user.max() + 1, len(known))

    def matrix(rows: BoolArray) -> sp.csr_matrix:
        rows = rows & (item > 0)
        return sp.csr_matrix((np.ones(rows.sum(), bool), (user[rows], item[rows] - 1)), shape)

    return ValidFunnel(
        users=users,
        user_features=np.stack(user_features, axis=1).astype(np.int64),
        liked=liked_genres(counts),
        items=to_matrix(known, ITEM_COLUMNS, np.int64),
        flags=to_matrix(known, GENRE_FLAGS),
        popularity_rank=np.argsort(np.lexsort((np.arange(len(known)), -positives))),
        seen=matrix(train),
        relevant=matrix(relevant),
    )


def ndcg_by_weight(funnel: ValidFunnel, vectors: Vectors, model: DeepFM) -> FloatArray:
    """[users, weights] NDCG@K of each user's list for each weight tried.

    Args:
        funnel: as it stood after the train rows.
        vectors: user and item vectors by index, fitted without the valid rows.
        model: DeepFM fitted without the valid rows.
    """
    parts: list[FloatArray] = []
    for block in np.array_split(np.arange(len(funnel.users)), -(-len(funnel.users) // USERS_AT_A_TIME)):
        seen, relevant = (matrix[funnel.users[block]].toarray() for matrix in (funnel.seen, funnel.relevant))
        found = recall_on_arrays(
            vectors[0][funnel.users[block]],
            vectors[1][1:],
            funnel.liked[block],
            funnel.flags,
            seen,
            funnel.popularity_rank,
        )
        width = found.items.shape[1]
        features = np.repeat(funnel.user_features[block], width, axis=0)
        sparse, dense = assemble(features, funnel.items[found.items.ravel()])
        rows = Rows(torch.from_numpy(sparse), torch.from_numpy(dense), np.empty(0, np.uint8))
        logits = score(model, rows).reshape(-1, width).astype(np.float64)
        of_weights = [
            ndcg(found.items, final_scores(logits, found.scores, weight), found.present, relevant, K)
            for weight in WEIGHTS_TRIED
        ]
        parts.append(np.stack(of_weights, axis=1))
    return np.concatenate(parts) if parts else np.zeros((1, len(WEIGHTS_TRIED)))


def tried_weights(ndcgs: FloatArray, seed: int) -> list[BlendTrial]:
    """The mean NDCG of each weight, with the interval of its gain over weight 0: whether the ranking has a say."""
    bootstrap = Bootstrap(np.arange(len(ndcgs)), seed)
    return [
        BlendTrial(
            weight=weight,
            ndcg_at_50=float(values.mean()),
            gain_interval=interval(bootstrap.means(values - ndcgs[:, 0])),
        )
        for weight, values in zip(WEIGHTS_TRIED, ndcgs.T, strict=True)
    ]
