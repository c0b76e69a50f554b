"""What the consistency check compares, and how a difference reads."""

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from data_exchange_center.assembler import assemble
from data_exchange_center.features import COLUMNS, Entity, entity_columns
from data_exchange_center.serving_names import TRITON_MAX_BATCH
from offline.rank.deepfm import DeepFM
from offline_to_online.rank.exported_model import SCORE_TOLERANCE
from online.callers.triton_caller import TritonCaller

LATEST_ITEMS = 10  # impressions of each user whose items are scored

Ints = npt.NDArray[np.int64]
Difference = dict[str, object]


def column_differences(columns: tuple[str, ...], hash_found: str, hash_declared: str, where: str) -> list[Difference]:
    """The places at which the model's order of the features is not the declared one."""
    if columns != COLUMNS:
        width = max(len(columns), len(COLUMNS))
        pairs = zip(columns + ("-",) * (width - len(columns)), COLUMNS + ("-",) * (width - len(COLUMNS)), strict=True)
        return [
            {"column": at, "declared": declared, where: found}
            for at, (found, declared) in enumerate(pairs)
            if found != declared
        ]
    if hash_found != hash_declared:
        return [{"what": "hash of the features", "declared": hash_declared, where: hash_found or "none"}]
    return []


def feature_differences(
    entity: Entity, ids: Ints, offline: Ints, online: Ints, known: npt.NDArray[np.bool_]
) -> list[Difference]:
    """Values that Feast holds otherwise than the artefacts.

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


def pairs_to_score(userid: Ints, itemid: Ints, users: Ints, items: Ints) -> tuple[Ints, Ints]:
    """(user, item) rows: each user with the items of the latest impressions, and each item at least once.

    Args:
        userid, itemid: [n] impressions in the split's order.
        users, items: all ids, sorted. A user without impressions, and an item that is in nobody's latest ones, is
            paired with the items, or users, in turn.

    Returns:
        [m] rows of `users`; [m] rows of `items`.
    """
    at = np.searchsorted(users, userid)
    from_end = np.bincount(at, minlength=len(users)).cumsum()[at] - 1 - np.arange(len(at)) if len(at) else at
    latest = from_end < LATEST_ITEMS
    user_rows, item_rows = at[latest], np.searchsorted(items, itemid[latest])
    lonely_users = np.setdiff1d(np.arange(len(users)), user_rows)
    lonely_items = np.setdiff1d(np.arange(len(items)), item_rows)
    return (
        np.r_[user_rows, lonely_users, np.arange(len(lonely_items)) % len(users)],
        np.r_[item_rows, np.arange(len(lonely_users)) % len(items), lonely_items],
    )


def score_differences(
    model: DeepFM,
    triton: TritonCaller,
    offline: tuple[Ints, Ints],
    online: tuple[Ints, Ints],
    ids: tuple[Ints, Ints],
    pairs: tuple[Ints, Ints],
) -> list[Difference]:
    """Pairs whose score in Triton differs from PyTorch's by more than SCORE_TOLERANCE.

    Args:
        model: as trained.
        triton: asked with features from Feast.
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
                "user": ids[0][rows[0][at]],
                "item": ids[1][rows[1][at]],
                "pytorch": f"{expected[at]:.7g}",
                "triton": f"{found[at]:.7g}",
            }
            for at in np.flatnonzero(~(np.abs(expected - found) <= SCORE_TOLERANCE))
        ]
    return differences
