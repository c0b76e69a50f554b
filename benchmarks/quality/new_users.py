"""What few events are worth: users of whom nothing is known but their last impressions, and what one more changes.

A user of the data set is made a new one: unknown id, no demographics, and only the last few offline rows. The server's
own recommender makes the lists. What the user has seen in fact is left out of every list, since it cannot be among the
rows that the lists are evaluated by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.quality.artefact_backends import ArtefactBackends, ArtefactFeatureStore, ArtefactRecallStore
from benchmarks.quality.comparison import difference, summary
from benchmarks.quality.item_catalogue import ItemCatalogue
from benchmarks.quality.list_metrics import Lists, accuracy
from benchmarks.quality.systems import popular, recommend
from data_exchange_center.arrays import Int64Array
from data_exchange_center.assembler import unknown_user
from data_exchange_center.features import Entity, FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.user_state import liked_genres
from offline.metrics import Bootstrap
from online.callers.types import Impression, UserRecall
from online.roles import Features
from online.serving_data import ServingData
from online.user_events import sequence_after, window_after

EVENTS = (0, 1, 3, 10, 50)
MOST_USERS = 1500  # drawn for the evaluation
METRICS = ("ndcg@10", "recall@50")
TOP = 50

Recent = Mapping[int, Sequence[Impression]]


@dataclass(frozen=True)
class FewEventsStore:
    """A recall store and feature store in which users have these impressions and nothing else."""

    users: Mapping[int, UserRecall]
    counts: Mapping[int, Int64Array]
    features_of_items: ArtefactFeatureStore

    @classmethod
    def of(cls, recent: Recent, backends: ArtefactBackends, data: ServingData) -> "FewEventsStore":
        """As the server would have them after these impressions."""
        users, counts = {}, {}
        for user, impressions in recent.items():
            if not impressions:
                continue
            window = window_after(impressions, data)
            genres = zip(data.features.categories.genres, liked_genres(window)[0], strict=True)
            terms = tuple(genre for genre, liked in genres if liked)
            sequence = sequence_after(impressions, data, TOWER_IMPRESSIONS)
            vector = tuple(backends.user_tower.user_vectors(*sequence)[0][0].tolist())
            seen = backends.recall_store.users[user].seen
            users[user] = UserRecall(terms, vector, seen, tuple(impressions[-RANKER_IMPRESSIONS:]))
            counts[user] = window[0].astype(np.int64)
        return cls(users, counts, backends.feature_store)

    def user(self, userid: int, load: str | None = None) -> UserRecall | None:
        """The user's recall data; None for a user without impressions."""
        return self.users.get(userid)

    def request_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Any:
        """The features, read when what is returned is called."""

        def receive() -> Features:
            if entity == "item":
                return self.features_of_items.features(declared, entity, ids)
            values = np.tile(unknown_user(declared), (len(ids), 1))
            for row, user in enumerate(ids):
                values[row, declared.history_places] = self.counts[user]
            return values, np.ones(len(ids), bool)

        return receive

    def all_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Features:
        """The items' features; users are asked for one by one."""
        return self.features_of_items.features(declared, entity, ids)


def lists_after(recent: Recent, backends: ArtefactBackends, data: ServingData, description: str) -> Lists:
    """The lists of users who have these impressions and nothing else."""
    store = FewEventsStore.of(recent, backends, data)
    roles = replace(backends, recall_store=store, feature_store=store)  # type: ignore[arg-type]
    recommendations = recommend([user for user in recent if user in store.users], roles, description)
    return {user: [item.itemid for item in found.items] for user, found in recommendations.items()}


def few_events(relevant: Lists, backends: ArtefactBackends, items: ItemCatalogue, seed: int) -> dict[str, Any]:
    """Metrics by number of events, each with its gain over popularity; and what one event changes.

    Args:
        relevant: the positives of each user.
        backends: the artefacts.
        items: for the popular items.
        seed: draws the users.
    """
    known: ArtefactRecallStore = backends.recall_store
    users = sorted(set(relevant) & set(known.users))
    users = sorted(np.random.default_rng(seed).permutation(users)[:MOST_USERS].tolist())
    data, bootstrap = ServingData.load(), Bootstrap(np.array(users), seed)
    recent = dict(zip(users, known.recent(users), strict=True))
    baseline = accuracy(popular(users, items, known), relevant, users)
    by_events: dict[str, Any] = {}
    for events in EVENTS:
        # Without an event the server has no vector, and popular items are the list.
        metrics = baseline
        if events:
            cut = {user: impressions[-events:] for user, impressions in recent.items()}
            metrics = accuracy(lists_after(cut, backends, data, f"{events} events"), relevant, users)
        by_events[str(events)] = {
            **summary({name: metrics[name] for name in METRICS}, bootstrap),
            "gain over popularity": {name: difference(metrics[name], baseline[name], bootstrap) for name in METRICS},
        }
    return {"users": len(users), "by_events": by_events, "one_event": one_event(recent, relevant, backends, data, seed)}


def one_event(
    recent: Recent, relevant: Lists, backends: ArtefactBackends, data: ServingData, seed: int
) -> dict[str, Any]:
    """What the last event changes in the list of users who have all others: shared items, and the metrics."""
    users = sorted(user for user, impressions in recent.items() if len(impressions) > 1)
    if not users:
        return {}
    before = lists_after({user: recent[user][:-1] for user in users}, backends, data, "before the last event")
    after = lists_after({user: recent[user] for user in users}, backends, data, "after it")
    shared = [len(set(before[user][:TOP]) & set(after[user][:TOP])) / max(len(after[user][:TOP]), 1) for user in users]
    same_order = [before[user][:TOP] == after[user][:TOP] for user in users]
    metrics = [accuracy(lists, relevant, users) for lists in (before, after)]
    bootstrap = Bootstrap(np.array(users), seed)
    return {
        "users": len(users),
        f"shared_items@{TOP}": float(np.mean(shared)),
        "lists_unchanged": float(np.mean(same_order)),
        "gain": {name: difference(metrics[1][name], metrics[0][name], bootstrap) for name in METRICS},
    }
