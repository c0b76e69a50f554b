"""The weight of DeepFM's logit in the final score, chosen on `valid` for the whole funnel."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp
import torch

from data_exchange_center.assembler import ITEM_COLUMNS, USER_COLUMNS, assemble
from data_exchange_center.columns import ITEM_INDEX, LABEL, SPLIT, USER_INDEX, Split
from data_exchange_center.features import GENRE_FLAGS, HISTORY_COUNTS
from data_exchange_center.genre_history import liked_genres, window_counts
from data_exchange_center.scoring import final_scores
from offline.metrics import Bootstrap, interval
from offline.rank.deepfm import DeepFM
from offline.rank.funnel import ndcg, recall_candidates
from offline.rank.training import Rows, score

WEIGHTS_TRIED = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
USERS = 8192
K = 50
NDCG = f"ndcg@{K}"

Floats = npt.NDArray[np.floating]


def choose_blend(
    frame: pa.Table,
    item_features: pa.Table,
    vectors: tuple[Floats, Floats],
    model: DeepFM,
    seed: int,
) -> list[dict[str, Any]]:
    """NDCG@50 on valid for each weight tried, over the whole funnel as it stood after the train rows.

    With the interval of its gain over the recall score alone (weight 0): whether the ranking model has a say.

    Args:
        frame: catalogue entry TRAINING_FRAME; its user_index rises.
        item_features: catalogue entry ITEM_FEATURES.
        vectors: user and item vectors fitted without the valid rows.
        model: DeepFM fitted without the valid rows.
        seed: draws the users where there are more than USERS.
    """
    user, item = (frame[name].to_numpy().astype(np.int64) for name in (USER_INDEX, ITEM_INDEX))
    split, labels = frame[SPLIT].to_numpy(), frame[LABEL].to_numpy()
    train, wanted = split == Split.TRAIN, (split == Split.VALID) & (labels == 1)
    users = np.unique(user[wanted & (item > 0)])
    users = np.sort(np.random.default_rng(seed).permutation(users)[:USERS])

    in_vocabulary = item_features.filter(pa.array(item_features[ITEM_INDEX].to_numpy() > 0)).sort_by(ITEM_INDEX)
    items = np.stack([in_vocabulary[name].to_numpy() for name in ITEM_COLUMNS], axis=1).astype(np.int64)
    flags = np.stack([in_vocabulary[name].to_numpy() for name in GENRE_FLAGS], axis=1)
    positives = np.bincount(item[train & (labels == 1)], minlength=len(items) + 1)[1:]
    popularity_rank = np.argsort(np.lexsort((np.arange(len(items)), -positives)))

    # The state after the train rows, by the function that also made the training windows.
    first = np.searchsorted(user, users)
    ends = first + np.bincount(user[train], minlength=user.max(initial=0) + 1)[users]
    row_flags = np.stack([frame[name].to_numpy() for name in GENRE_FLAGS], axis=1)
    history = dict(zip(HISTORY_COUNTS, window_counts(row_flags, labels, first, ends).T, strict=True))
    user_rows = np.stack([history.get(name, frame[name].to_numpy()[first]) for name in USER_COLUMNS], axis=1).astype(
        np.int64
    )
    liked = liked_genres(np.stack([history[name] for name in HISTORY_COUNTS], axis=1))

    seen_matrix = sp.csr_matrix(
        (np.ones(train.sum(), bool), (user[train], item[train])), (user.max() + 1, len(items) + 1)
    )
    wanted_matrix = sp.csr_matrix((np.ones(wanted.sum(), bool), (user[wanted], item[wanted])), seen_matrix.shape)
    gains: list[Floats] = []
    for block in np.array_split(np.arange(len(users)), -(-len(users) // 256)):
        seen, relevant = (m[users[block]].toarray()[:, 1:] for m in (seen_matrix, wanted_matrix))
        found = recall_candidates(vectors[0][users[block]], vectors[1][1:], liked[block], flags, seen, popularity_rank)
        width = found.items.shape[1]
        sparse, dense = assemble(np.repeat(user_rows[block], width, axis=0), items[found.items.ravel()])
        rows = Rows(torch.from_numpy(sparse), torch.from_numpy(dense), np.empty(0, np.uint8))
        logits = score(model, rows).reshape(-1, width).astype(np.float64)
        gains.append(
            np.stack(
                [
                    ndcg(found.items, final_scores(logits, found.recall, w), found.present, relevant, K)
                    for w in WEIGHTS_TRIED
                ],
                axis=1,
            )
        )
    of_users = np.concatenate(gains) if gains else np.zeros((1, len(WEIGHTS_TRIED)))
    bootstrap = Bootstrap(np.arange(len(of_users)), seed)
    return [
        {"weight": w, NDCG: float(ndcgs.mean()), "gain_interval": interval(bootstrap.means(ndcgs - of_users[:, 0]))}
        for w, ndcgs in zip(WEIGHTS_TRIED, of_users.T, strict=True)
    ]
