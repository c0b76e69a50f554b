"""A model that stands at the gate: its lists and scores for users as they were before their latest rows.

Two models are compared on the same rows, so each is given the same users: their last impressions, what they have seen,
the genres that follow. It makes vectors and features of them by its own artefacts, as the server does after events.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.quality.artefact_backends import ArtefactBackends, ArtefactFeatureStore, ArtefactRecallStore
from benchmarks.quality.list_metrics import Lists
from benchmarks.quality.online_rows import OnlineRows, row_scores
from data_exchange_center.arrays import Float64Array, Int64Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.features import Entity, FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS, RECALL_SIZE, TOWER_IMPRESSIONS
from data_exchange_center.user_state import liked_genres
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.splitting import split_users
from online.breakers import Breakers
from online.callers.types import Impression, UserRecall
from online.recommender import Recommender
from online.roles import Features
from online.serving_data import ServingData
from online.snapshot import ItemFeatures, Snapshot
from online.user_events import sequence_after, window_after
from testkit.stack import in_force


@dataclass(frozen=True)
class LatestRows:
    """Some users' rows: those before, which their state follows from, and the latest, which no model was fitted to.

    Attributes:
        before: userid, itemid, rating and timestamp, in the split's order.
        latest: userid, itemid, rating, timestamp and label; these users' rows that are kept for the online evaluation.
    """

    before: pa.Table
    latest: pa.Table

    @classmethod
    def of(cls, data: DataSource, users: Int64Array) -> "LatestRows":
        """Of these users, ascending, from the raw data: whatever a model was fitted to, these are the true labels."""
        ratings = data.ratings()
        own = ratings.filter(pa.array(np.isin(ratings[Column.USERID].to_numpy(), users)))
        rows = split_users(own, data.online_rows, data.scale)
        is_latest = rows[Column.SPLIT].to_numpy() == Split.ONLINE
        return cls(rows.filter(pa.array(~is_latest)), rows.filter(pa.array(is_latest)))

    def relevant(self) -> dict[int, list[int]]:
        """The positives among the latest rows of each user that has one."""
        liked = self.latest.filter(pa.array(self.latest[Column.LABEL].to_numpy() == 1))
        found: dict[int, list[int]] = {}
        for user, item in zip(liked[Column.USERID].to_pylist(), liked[Column.ITEMID].to_pylist(), strict=True):
            found.setdefault(user, []).append(item)
        return found


def impressions_of(rows: pa.Table) -> dict[int, tuple[Impression, ...]]:
    """The impressions of each user, oldest first, of rows in the split's order."""
    names = (Column.USERID, Column.ITEMID, Column.RATING, Column.TIMESTAMP)
    found: dict[int, list[Impression]] = {}
    for user, *values in zip(*(rows[name].to_pylist() for name in names), strict=True):
        found.setdefault(user, []).append(Impression(*values))
    return {user: tuple(impressions) for user, impressions in found.items()}


Impressions = Mapping[int, Sequence[Impression]]  # of each user, oldest first


class FeaturesAfter(ArtefactFeatureStore):
    """The artefacts' features, with the history of users as it is after their impressions."""

    def __init__(self, impressions: Impressions, data: ServingData) -> None:
        """Counts the window of each user."""
        super().__init__()
        self._windows = {user: window_after(own[-TOWER_IMPRESSIONS:], data)[0] for user, own in impressions.items()}

    def features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Features:
        """As the artefacts have them, but for the history."""
        values, known = super().features(declared, entity, ids)
        if entity == "user":
            columns = [declared.user_columns.index(name) for name in declared.history_counts]
            for row, user in enumerate(ids):
                if user in self._windows:
                    values[row, columns] = self._windows[user]
        return values, known

    all_features = features

    def request_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Callable[[], Features]:
        """As `features`, read when what is returned is called."""
        return lambda: self.features(declared, entity, ids)


class UsersAfter(ArtefactRecallStore):
    """The recall data of users after their impressions, by the served tower."""

    def __init__(self, impressions: Impressions, data: ServingData, own: ArtefactBackends):
        """Makes their vectors."""
        recents = {user: tuple(rows[-TOWER_IMPRESSIONS:]) for user, rows in impressions.items()}
        sequences = [sequence_after(recent, data, TOWER_IMPRESSIONS) for recent in recents.values()]
        items, liked = (np.concatenate(parts) for parts in zip(*sequences, strict=True))
        vectors, _ = own.user_tower.user_vectors(items, liked)
        genres = data.features.categories.genres
        self._recent = recents
        self.users = {
            user: UserRecall(
                terms=tuple(
                    genre
                    for genre, likes in zip(genres, liked_genres(window_after(recent, data))[0], strict=True)
                    if likes
                ),
                vector=tuple(vector.tolist()),
                seen=tuple(sorted({impression.itemid for impression in impressions[user]})),
                recent=recent[-RANKER_IMPRESSIONS:],
            )
            for (user, recent), vector in zip(recents.items(), vectors, strict=True)
        }


def model_after(impressions: Impressions, data: ServingData) -> ArtefactBackends:
    """The model of the artefacts that the settings name, and users as they are after these impressions."""
    own = ArtefactBackends.load()
    users = UsersAfter(impressions, data, own)
    return replace(own, recall_store=users, feature_store=FeaturesAfter(impressions, data))


def lists_of(backends: ArtefactBackends, data: ServingData, size: int) -> Lists:
    """Each user's list by the server's own recommender."""
    snapshot = Snapshot(data, ItemFeatures.read(backends.feature_store, data.features, data.items))
    recommender = Recommender(backends, Breakers())
    return {
        user: [item.itemid for item in recommender.recommend(snapshot, user, size).items]
        for user in backends.recall_store.users
    }


@dataclass(frozen=True)
class Contender:
    """What a model makes of the latest rows: each user's list, and [latest rows] the logit of a like."""

    lists: Lists
    logits: Float64Array

    @classmethod
    def of(cls, artefacts: Path, rows: LatestRows) -> "Contender":
        """By the artefacts under this root."""
        with in_force({"ARTEFACTS_DIR": str(artefacts)}):
            data = ServingData.load()
            backends = model_after(impressions_of(rows.before), data)
            lists = lists_of(backends, data, RECALL_SIZE)
            latest = OnlineRows(
                *(rows.latest[name].to_numpy() for name in (Column.USERID, Column.ITEMID, Column.LABEL))
            )
            logits, _ = row_scores(latest, backends.feature_store, backends.ranking_model, backends)
        return cls(lists, logits)
