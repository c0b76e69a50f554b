"""What the consistency check compares, and how it shows a difference."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from tqdm import tqdm

from data_exchange_center.arrays import BoolArray, Float32Array, Int64Array
from data_exchange_center.assembler import RankingInputs, ranking_inputs
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.features import Entity, FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS, TRITON_MAX_BATCH
from offline_to_online.exported_model import SCORE_TOLERANCE, TrainedModel
from online.callers.feast_caller import FeastCaller
from online.callers.triton_caller import TritonCaller
from online.callers.types import Impression

LISTED_ITEMS = 10  # of a user whose scores are compared

Difference = dict[str, object]  # one line of the table that the check prints


@dataclass(frozen=True)
class Pace:
    """How much of the services the check asks at a time.

    Attributes:
        entities: whose features one call to Feast is for; all, unless given.
        lists: whose scores one call to Triton is for.
        rest: pause after each call, in which the requests of users get their turn, for each second that it took.
    """

    entities: int | None = None
    lists: int = TRITON_MAX_BATCH
    rest: float = 0.0

    def pause_after(self, began: float) -> None:
        """Rests after a call that began then, by `time.perf_counter`."""
        time.sleep(self.rest * (time.perf_counter() - began))


AT_ONCE = Pace()
# A fifth of the services' time at most, however slow they are under load, and little at once; a list of ten is a
# twentieth of a request's candidates.
BESIDE_REQUESTS = Pace(entities=10, lists=16, rest=4.0)


def paced_features(
    feast: FeastCaller, declared: FeatureSet, entity: Entity, ids: list[int], pace: Pace
) -> tuple[Int64Array, BoolArray]:
    """[n, columns] values and [n] whether each is known, of n entities."""
    size = pace.entities or max(len(ids), 1)
    parts = []
    for start in range(0, max(len(ids), 1), size):
        began = time.perf_counter()
        parts.append(feast.all_features(declared, entity, ids[start : start + size]))
        pace.pause_after(began)
    values, known = zip(*parts, strict=True)
    return np.concatenate(values), np.concatenate(known)


def column_differences(
    columns: tuple[str, ...], declared: tuple[str, ...], hash_found: str, hash_declared: str, where: str
) -> list[Difference]:
    """The places at which the model's order of the features is not the declared one.

    Args:
        columns: the model's features, in its order.
        declared: the data set's, in theirs.
        hash_found, hash_declared: fingerprints of the features, the vocabularies and the ids.
        where: which model, for the table.
    """
    if columns != declared:
        return [
            {"column": place, "declared": own, where: found}
            for place, (found, own) in enumerate(zip_longest(columns, declared, fillvalue="-"))
            if found != own
        ]
    if hash_found != hash_declared:
        return [{"what": "hash of the features", "declared": hash_declared, where: hash_found or "none"}]
    return []


def feature_differences(
    entity: Entity,
    names: tuple[str, ...],
    ids: Int64Array,
    offline: Int64Array,
    online: Int64Array,
    known: BoolArray,
) -> list[Difference]:
    """The values that differ between Feast and the artefacts.

    Args:
        entity: whose columns they are.
        names: [columns].
        ids: [n]; offline, online: [n, columns]; known: [n] False where Feast lacks the entity.
    """
    return [
        {
            entity: ids[row],
            "feature": names[column],
            "offline": offline[row, column],
            "feast": online[row, column] if known[row] else "missing",
        }
        for row, column in np.argwhere((offline != online) | ~known[:, None])
    ]


def lists_to_score(
    userid: Int64Array, itemid: Int64Array, users: Int64Array, items: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Each user with the items of their latest impressions, and each item at least once.

    Args:
        userid, itemid: [n] impressions in the split's order.
        users, items: all ids, sorted. A user with fewer impressions gets other items in turn, and items that are in
            no user's latest impressions form further lists, of the users in turn.

    Returns:
        [lists] rows of `users`; [lists, LISTED_ITEMS] rows of `items`.
    """
    rows = np.searchsorted(users, userid)
    sizes = np.bincount(rows, minlength=len(users))
    back = sizes.cumsum()[rows] - np.arange(len(rows))  # 1 for a user's last impression
    latest = back <= LISTED_ITEMS
    turns = np.arange(len(users) * LISTED_ITEMS).reshape(len(users), LISTED_ITEMS)
    lists = turns % len(items)
    lists[rows[latest], LISTED_ITEMS - back[latest]] = np.searchsorted(items, itemid[latest])
    others = np.setdiff1d(np.arange(len(items)), lists)
    others = np.resize(others, (-(-len(others) // LISTED_ITEMS), LISTED_ITEMS))
    return np.r_[np.arange(len(users)), np.arange(len(others)) % len(users)], np.concatenate([lists, others])


@dataclass(frozen=True)
class State:
    """What the models are handed, from one side: the artefacts, or the stores.

    Attributes:
        features: of the data set.
        users: [users, 40] values of `features.user_columns`.
        items: [items, 19] values of `features.item_columns`.
        user_vectors: [users, dim + 1]; item_vectors: [items, dim + 1].
        liked: [users, genres] the terms.
        sequences: [users, TOWER_IMPRESSIONS] item indices and likes of the last impressions.
    """

    features: FeatureSet
    users: Int64Array
    items: Int64Array
    user_vectors: Float32Array
    item_vectors: Float32Array
    liked: BoolArray
    sequences: tuple[Int64Array, Int64Array]

    def inputs(self, user_rows: Int64Array, item_rows: Int64Array) -> RankingInputs:
        """The ranking model's inputs for [b] users with [b, m] items each.

        Every item counts as found by its vector, and by the terms where it has a genre that the user likes.
        """
        flags = self.items[:, self.features.flag_places]
        by_term = np.einsum("bg,bmg->bm", self.liked[user_rows], flags[item_rows]) > 0
        products = np.einsum("bd,bmd->bm", self.user_vectors[user_rows], self.item_vectors[item_rows])
        recalled = products + TERM_BONUS * by_term, by_term, np.ones(by_term.shape, bool)
        recent, liked = (part[user_rows, -RANKER_IMPRESSIONS:] for part in self.sequences)
        return ranking_inputs(self.features, self.users[user_rows], self.items[item_rows], recalled, (recent, liked))


def vector_differences(
    kind: str, ids: Int64Array, offline: Float32Array, online: Float32Array, where: str
) -> list[Difference]:
    """The vectors that differ by more than SCORE_TOLERANCE.

    Args:
        kind: user or item, whose ids [n] they are.
        offline, online: [n, dim + 1]; NaN where there is none.
        where: which service holds the second.
    """
    differ = ~(np.abs(offline - online) <= SCORE_TOLERANCE)
    rows = np.flatnonzero(differ.any(axis=1))
    return [
        {
            kind: ids[row],
            "dimension": place,
            "offline": f"{offline[row, place]:.7g}",
            where: "missing" if np.isnan(online[row, place]) else f"{online[row, place]:.7g}",
        }
        for row, place in zip(rows, differ[rows].argmax(axis=1), strict=True)
    ]


def sequence_differences(
    ids: Int64Array, expected: Mapping[int, tuple[Impression, ...]], found: Mapping[int, tuple[Impression, ...]]
) -> list[Difference]:
    """The users whose last impressions in Redis are not the expected ones, with the first that differs."""
    differences: list[Difference] = []
    for user in ids.tolist():
        own, other = expected.get(user, ()), found.get(user, ())
        if own != other:
            pairs = zip_longest(own, other)
            place, (one, two) = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
            differences.append({"user": user, "impression": place, "offline": one, "redis": two or "missing"})
    return differences


def score_differences(
    model: TrainedModel,
    version: str,
    triton: TritonCaller,
    sides: tuple[State, State],
    ids: tuple[Int64Array, Int64Array],
    lists: tuple[Int64Array, Int64Array],
    pace: Pace = AT_ONCE,
) -> list[Difference]:
    """Candidates whose logit or rank score in Triton differs from PyTorch's by more than SCORE_TOLERANCE.

    Args:
        model: the ranking model as trained.
        version: that Triton serves of it.
        triton: scores what the stores hold.
        sides: the artefacts, for PyTorch, and the stores.
        ids: all userids and itemids.
        lists: as from `lists_to_score`.
        pace: how many of them at a time.
    """
    differences: list[Difference] = []
    offline, online = sides
    starts = range(0, len(lists[0]), pace.lists)
    for start in tqdm(starts, desc="scores", unit="batch", disable=None, leave=False):
        rows = tuple(part[start : start + pace.lists] for part in lists)
        expected = model.outputs(tuple(map(torch.from_numpy, offline.inputs(*rows))))
        inputs, began = online.inputs(*rows), time.perf_counter()
        found, _ = triton.infer(model.declared, inputs, version)
        pace.pause_after(began)
        for tensor, own, other in zip(model.declared.outputs, expected, found, strict=True):
            differences += [
                {
                    "user": ids[0][rows[0][row]],
                    "item": ids[1][rows[1][row, place]],
                    "output": tensor.name,
                    "pytorch": f"{own[row, place]:.7g}",
                    "triton": f"{other[row, place]:.7g}",
                }
                for row, place in np.argwhere(~(np.abs(own - other) <= SCORE_TOLERANCE))
            ]
    return differences
