"""What the consistency check compares, and how it shows a difference."""

import numpy as np
import torch
from tqdm import tqdm

from data_exchange_center.arrays import BoolArray, Int64Array
from data_exchange_center.assembler import assemble
from data_exchange_center.features import COLUMNS, Entity, entity_columns
from data_exchange_center.limits import TRITON_MAX_BATCH
from offline.rank.deepfm import DeepFM
from offline_to_online.rank.exported_model import SCORE_TOLERANCE
from online.callers.triton_caller import TritonCaller

LATEST_ITEMS = 10  # impressions of each user whose items are scored

Difference = dict[str, object]  # one line of the table that the check prints


def column_differences(columns: tuple[str, ...], hash_found: str, hash_declared: str, where: str) -> list[Difference]:
    """The places at which the model's order of the features is not the declared one.

    Args:
        columns: the model's features, in its order.
        hash_found, hash_declared: fingerprints of the features, the vocabularies and the ids.
        where: which model, for the table.
    """
    if columns != COLUMNS:
        width = max(len(columns), len(COLUMNS))
        pairs = zip(columns + ("-",) * (width - len(columns)), COLUMNS + ("-",) * (width - len(COLUMNS)), strict=True)
        return [
            {"column": place, "declared": declared, where: found}
            for place, (found, declared) in enumerate(pairs)
            if found != declared
        ]
    if hash_found != hash_declared:
        return [{"what": "hash of the features", "declared": hash_declared, where: hash_found or "none"}]
    return []


def feature_differences(
    entity: Entity, ids: Int64Array, offline: Int64Array, online: Int64Array, known: BoolArray
) -> list[Difference]:
    """The values that differ between Feast and the artefacts.

    Args:
        entity: whose columns they are.
        ids: [n]; offline, online: [n, columns]; known: [n] False where Feast lacks the entity.
    """
    names = entity_columns(entity)
    return [
        {
            entity: ids[row],
            "feature": names[column],
            "offline": offline[row, column],
            "feast": online[row, column] if known[row] else "missing",
        }
        for row, column in np.argwhere((offline != online) | ~known[:, None])
    ]


def pairs_to_score(
    userid: Int64Array, itemid: Int64Array, users: Int64Array, items: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """(user, item) rows: each user with the items of the latest impressions, and each item at least once.

    Args:
        userid, itemid: [n] impressions in the split's order.
        users, items: all ids, sorted. A user without impressions is paired with the items in turn, and an item that is
            in no user's latest impressions with the users in turn.

    Returns:
        [m] rows of `users`; [m] rows of `items`.
    """
    rows = np.searchsorted(users, userid)
    ends = np.bincount(rows, minlength=len(users)).cumsum()[rows]  # row after the user's last impression
    latest = ends - np.arange(len(rows)) <= LATEST_ITEMS
    user_rows, item_rows = rows[latest], np.searchsorted(items, itemid[latest])
    other_users = np.setdiff1d(np.arange(len(users)), user_rows)
    other_items = np.setdiff1d(np.arange(len(items)), item_rows)
    return (
        np.r_[user_rows, other_users, np.arange(len(other_items)) % len(users)],
        np.r_[item_rows, np.arange(len(other_users)) % len(items), other_items],
    )


def score_differences(
    model: DeepFM,
    triton: TritonCaller,
    offline: tuple[Int64Array, Int64Array],
    online: tuple[Int64Array, Int64Array],
    ids: tuple[Int64Array, Int64Array],
    pairs: tuple[Int64Array, Int64Array],
) -> list[Difference]:
    """Pairs whose score in Triton differs from PyTorch's by more than SCORE_TOLERANCE.

    Args:
        model: as trained.
        triton: scores the features from Feast.
        offline, online: user features [users, 40] and item features [items, 19] from the artefacts and from Feast.
        ids: userids and itemids of those rows.
        pairs: as from `pairs_to_score`.
    """
    differences: list[Difference] = []
    starts = range(0, len(pairs[0]), TRITON_MAX_BATCH)
    for start in tqdm(starts, desc="scores", unit="batch", disable=None, leave=False):
        rows = [part[start : start + TRITON_MAX_BATCH] for part in pairs]
        sparse, dense = assemble(offline[0][rows[0]], offline[1][rows[1]])
        with torch.no_grad():
            expected = model(torch.from_numpy(sparse), torch.from_numpy(dense)).squeeze(1).numpy()
        found, _ = triton.score(*assemble(online[0][rows[0]], online[1][rows[1]]))
        differences += [
            {
                "user": ids[0][rows[0][place]],
                "item": ids[1][rows[1][place]],
                "pytorch": f"{expected[place]:.7g}",
                "triton": f"{found[place]:.7g}",
            }
            for place in np.flatnonzero(~(np.abs(expected - found) <= SCORE_TOLERANCE))
        ]
    return differences
