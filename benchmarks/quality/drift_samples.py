"""Samples of lists as plain columns, by the server's own recommender: on the live stores, or on the artefacts."""

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.drift_statistics import Observed, Sample
from benchmarks.quality.systems import recommend
from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array
from data_exchange_center.columns import Column
from online.breakers import RETRY_SECONDS
from online.recommendation import Recommendation
from online.roles import ServingBackends

TRIES = 5  # for each list: a degraded one shows how the services were doing, not what they hold
IDS = (Column.USER_INDEX, Column.ITEM_INDEX)  # who somebody is has no distribution


class DriftError(Exception):
    """What is served cannot be compared; the message names the reason and the remedy."""

    is_expected = True


def whole_lists(users: Sequence[int], backends: ServingBackends, description: str) -> list[Recommendation]:
    """A list for each user, none of them degraded.

    Raises:
        DriftError: some stay degraded.
    """
    found: dict[int, Recommendation] = {}
    for _ in range(TRIES):
        found |= recommend([user for user in users if user not in found], backends, description)
        degraded = {user: found.pop(user).degraded for user in users if found[user].degraded}
        if not degraded:
            return [found[user] for user in users]
        time.sleep(RETRY_SECONDS)  # a breaker may have opened
    services = sorted({service for of_user in degraded.values() for service in of_user})
    raise DriftError(f"{len(degraded):,} of {len(users):,} lists are degraded by {', '.join(services)}: `make status`.")


def sample_of(recommendations: Sequence[Recommendation]) -> Sample:
    """The users' features, the candidates with theirs, and the scores.

    A user's features are one row a list; all else has a row for each candidate. A list that came about otherwise
    (popular items, no candidates) has neither features nor candidates, and counts in the column of whole lists.
    """
    snapshot, places = recommendations[0].snapshot, np.arange(len(recommendations))
    declared = snapshot.data.features
    ranked = np.array([r.ranking is not None for r in recommendations])
    whole = [r for r in recommendations if r.ranking is not None]
    columns = {"lists: by all services": Observed(ranked.astype(np.float64), places)}
    if not whole:
        return Sample(len(recommendations), columns)

    users = np.stack([r.user_features for r in whole if r.user_features is not None]).astype(np.float64)
    for name, values in zip(declared.user_columns, users.T, strict=True):
        if name not in IDS:
            columns[f"user feature: {name}"] = Observed(values, places[ranked])

    counts = np.array([len(r.candidates) for r in whole])
    columns["candidates: how many"] = Observed(counts.astype(np.float64), places[ranked])
    lists = np.repeat(places[ranked], counts)
    itemids = np.concatenate([r.candidates.itemids for r in whole])
    for name, values in zip(declared.item_columns, snapshot.item_features.look_up(itemids).T, strict=True):
        if name not in IDS:
            columns[f"candidates' feature: {name}"] = Observed(values.astype(np.float64), lists)
    of_candidates: dict[str, list[BoolArray] | list[Float64Array] | list[Float32Array]] = {
        "candidates: found by term": [r.candidates.by_term for r in whole],
        "candidates: found by vector": [r.candidates.by_vector for r in whole],
        "score: recall": [r.candidates.scores for r in whole],
        "score: logit": [r.ranking.logits for r in whole if r.ranking],
        "score: rank": [r.ranking.rank_scores for r in whole if r.ranking],
    }
    for name, parts in of_candidates.items():
        columns[name] = Observed(np.concatenate(parts).astype(np.float64), lists)
    popular = {itemid: place for place, (itemid, _) in enumerate(snapshot.data.popular, start=1)}
    last = len(popular) + 1
    ranks = np.array([popular.get(itemid, last) for itemid in itemids.tolist()], np.float64)
    columns["candidates: rank by popularity"] = Observed(ranks, lists)
    return Sample(len(recommendations), columns)
