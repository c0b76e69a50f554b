"""The consistency check: for every user and item, what is served is what was trained.

    python -m offline_to_online.rank.s3_check_offline_and_online

In this order, ending with status 1 at the first kind of difference, with a table of what differs:

1. the features' order and hash of the served model = the declaration;
2. every weight in the served model's file = the trained one;
3. every feature of every user and item in Feast = the offline artefacts, exactly;
4. for every user, with items drawn from the latest impressions, and for every item: Triton's score of the features
   from Feast = PyTorch's score of the features from the artefacts, to 1e-5.
"""

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from tabulate import tabulate
from tqdm import tqdm

from data_exchange_center import catalogue
from data_exchange_center.assembler import assemble
from data_exchange_center.columns import ITEMID, USERID
from data_exchange_center.features import COLUMNS, JOIN_KEYS, Entity, entity_columns, feature_hash, vocabulary_sizes
from data_exchange_center.serving_names import TRITON_MAX_BATCH
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.rank.deepfm import DeepFM
from offline_to_online.loading import LOADER_TIMEOUT
from offline_to_online.rank.exported_model import SCORE_TOLERANCE, first_different_weight, state_digest, trained_model
from offline_to_online.rank.model_repository import model_folder, versions
from online.callers.feast_caller import FeastCaller
from online.callers.triton_caller import TritonCaller

READS = (
    catalogue.DATASET,
    catalogue.USER_FEATURES,
    catalogue.ITEM_FEATURES,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.DEEPFM_META,
    catalogue.DEEPFM_MODEL,
)
WRITES: tuple[catalogue.Artefact, ...] = ()

LATEST_ITEMS = 10  # impressions of each user whose items are scored
SHOWN = 10

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


def differences_by_kind(settings: Settings) -> Iterator[tuple[str, list[Difference]]]:
    """One kind after the other, so that the first that differs is the one reported."""
    dataset, meta = catalogue.load_json(catalogue.DATASET), catalogue.load_json(catalogue.DEEPFM_META)
    declared = feature_hash(COLUMNS, vocabulary_sizes(dataset["id_sizes"]), dataset["id_digest"])
    triton, feast = TritonCaller(settings, LOADER_TIMEOUT), FeastCaller(settings, LOADER_TIMEOUT)
    served, model = triton.model(), trained_model()
    yield (
        "the order of the features",
        column_differences(tuple(meta["columns"]), meta["feature_hash"], declared, "trained model")
        or column_differences(served.columns, served.feature_hash, declared, "served model"),
    )

    folder = model_folder(settings)
    file = folder / str(max(versions(folder), default=0)) / "model.onnx"
    weight = first_different_weight(model, file)
    digest = state_digest(model)
    if not weight and served.state_digest != digest:
        weight = f"Triton serves the weights {served.state_digest or 'none'}, trained were {digest}"
    yield "the weights", [{"difference": weight}] if weight else []

    ids: list[Ints] = []
    offline: list[Ints] = []
    online: list[Ints] = []
    entities: dict[Entity, catalogue.Artefact] = {"user": catalogue.USER_FEATURES, "item": catalogue.ITEM_FEATURES}
    for entity, artefact in entities.items():
        table = catalogue.load_table(artefact)
        ids.append(table[JOIN_KEYS[entity]].to_numpy())
        offline.append(np.stack([table[n].to_numpy() for n in entity_columns(entity)], axis=1).astype(np.int64))
        values, known = feast.all_features(entity, ids[-1].tolist())
        online.append(values)
        yield (
            f"the features of {len(ids[-1]):,} {entity}s",
            feature_differences(entity, ids[-1], offline[-1], values, known),
        )

    impressions = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID, ITEMID])
    pairs = pairs_to_score(impressions[USERID].to_numpy(), impressions[ITEMID].to_numpy(), ids[0], ids[1])
    yield (
        f"the scores of {len(pairs[0]):,} pairs of all users and items",
        score_differences(model, triton, (offline[0], offline[1]), (online[0], online[1]), (ids[0], ids[1]), pairs),
    )


def main() -> None:
    """Prints each kind that is equal; at the first that is not, its table, and status 1."""
    name = catalogue.load_json(catalogue.DATASET)["dataset"]
    for what, differences in differences_by_kind(Settings()):
        if differences:
            print(tabulate(differences[:SHOWN], headers="keys"))
            print(
                f"error: data set {name}: {what} differ between offline and online in {len(differences):,} places.",
                file=sys.stderr,
            )
            sys.exit(1)
        print(f"data set {name}: {what} are equal offline and online")


if __name__ == "__main__":
    run_stage(main)
