"""A request's way from a userid to a list:

    user -> candidates, while the user's features are on their way -> features -> scores -> order

A service that cannot be used is left out, and the recommendation says so in `degraded`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from data_exchange_center.arrays import FloatArray, Int64Array
from data_exchange_center.assembler import RankingInputs, ranking_inputs, unknown_user
from data_exchange_center.limits import RANKER_IMPRESSIONS
from online.breakers import Breakers
from online.callers.types import Candidates, Impression, ScoredItem, StoreFault, UserRecall
from online.recommendation import Ranking, Recommendation, Step
from online.roles import ELASTICSEARCH, FEAST, REDIS, TRITON, Features, ServingBackends
from online.snapshot import Snapshot
from online.user_events import sequence_after

COLD_START = "cold_start"
COUNT_LIMIT = 256  # no dense feature reaches it: they are counts, stored in 8 bits
# Which recall found a candidate, at the place by_term + 2 * by_vector.
RECALLED_BY = ((), ("term",), ("vector",), ("term", "vector"))


class Recommender:
    """Makes recommendations; one object for the life of the process, used by many threads."""

    def __init__(self, backends: ServingBackends, breakers: Breakers) -> None:
        """Keeps the backends, which are called only where their breaker allows it."""
        self._backends, self._breakers = backends, breakers

    def recommend(self, snapshot: Snapshot, userid: int, size: int) -> Recommendation:
        """The top items for a user.

        Args:
            snapshot: what the request goes by.
            userid: as in the raw data; an unknown user gets popular items.
            size: how many items at most.
        """
        # The user.
        found = Step.take(REDIS, partial(self._user, userid, snapshot))
        user = found.value
        if user is None or not (user.vector or user.terms):
            items = popular_items(snapshot, size, user.seen if user else ())
            return Recommendation(snapshot, items, (found,), user, fallback=COLD_START if found.available else None)

        # Candidates, while the user's features are on their way.
        receive_features = self._request_features(userid, snapshot)
        recalled = Step.take(ELASTICSEARCH, partial(self._candidates, user, snapshot))
        received = Step.take(FEAST, receive_features)
        features = unknown_user(snapshot.data.features) if received.value is None else received.value
        steps: tuple[Step[Any], ...] = (found, recalled, received)
        candidates = recalled.value
        if candidates is None:
            return Recommendation(snapshot, popular_items(snapshot, size, user.seen), steps, user, features)
        if not len(candidates):
            return Recommendation(snapshot, (), steps, user, features)

        # Scores, and the order by them.
        scored = Step.take(TRITON, partial(self._ranking, user, features, candidates, snapshot))
        items = top_items(candidates, scored.value, size)
        return Recommendation(snapshot, items, (*steps, scored), user, features, candidates, scored.value)

    def _user(self, userid: int, snapshot: Snapshot) -> UserRecall | None:
        with self._breakers.use(REDIS):
            user = self._backends.recall_store.user(userid, snapshot.data.load_digest)
            snapshot.data.check_user(REDIS, userid, user is not None)
            return user

    def _candidates(self, user: UserRecall, snapshot: Snapshot) -> Candidates:
        with self._breakers.use(ELASTICSEARCH):
            return self._backends.recall_index.recall(user, len(snapshot.data.items), snapshot.data.load_digest)

    def _request_features(self, userid: int, snapshot: Snapshot) -> Callable[[], Int64Array]:
        """Sends the request for the user's features; the function returned waits for them and checks them."""

        def request() -> Callable[[], Int64Array]:
            receive = self._backends.feature_store.request_features(snapshot.data.features, "user", [userid])
            return lambda: checked_features(userid, receive(), snapshot)

        return self._breakers.send(FEAST, request)

    def _ranking(self, user: UserRecall, features: Int64Array, candidates: Candidates, snapshot: Snapshot) -> Ranking:
        inputs = inputs_of(user.recent, features, candidates, snapshot)
        with self._breakers.use(TRITON):
            scores, model = self._backends.ranking_model.score(inputs, snapshot.ranking_version)
            snapshot.data.expected.check_model(model)
        return Ranking(scores.logits[0], scores.rank_scores[0], model)


def inputs_of(
    recent: Sequence[Impression], features: Int64Array, candidates: Candidates, snapshot: Snapshot
) -> RankingInputs:
    """The ranking model's inputs for one request: the user's last impressions and features, and the candidates."""
    items = snapshot.item_features.look_up(candidates.itemids)
    recalled = candidates.scores[None], candidates.by_term[None], candidates.by_vector[None]
    sequence = sequence_after(recent, snapshot.data, RANKER_IMPRESSIONS)
    return ranking_inputs(snapshot.data.features, features[None], items[None], recalled, sequence)


def checked_features(userid: int, found: Features, snapshot: Snapshot) -> Int64Array:
    """[40] the user's features as they are, once it is sure that the model knows each value.

    Raises:
        StoreFault: a value is outside its feature's vocabulary, or the feature store has lost the user.
    """
    (features,), (is_known,) = found
    snapshot.data.check_user(FEAST, userid, bool(is_known))
    sizes = snapshot.data.vocabulary_sizes
    for name, value in zip(snapshot.data.features.user_columns, features.tolist(), strict=True):
        if not 0 <= value < sizes.get(name, COUNT_LIMIT):
            raise StoreFault(FEAST, f"{name} of user {userid} is {value}")
    values: Int64Array = features
    return values


def top_items(candidates: Candidates, ranking: Ranking | None, size: int) -> tuple[ScoredItem, ...]:
    """The candidates by their rank score, ties by item id; without a ranking, by their recall score."""
    ids, recall = candidates.itemids, candidates.scores
    scores: FloatArray = ranking.rank_scores if ranking else recall
    top = np.lexsort((ids, -scores))[:size]
    logits = ranking.logits[top].tolist() if ranking else [None] * len(top)
    found_by = [RECALLED_BY[which] for which in (candidates.by_term + 2 * candidates.by_vector)[top].tolist()]
    columns = (ids[top].tolist(), scores[top].tolist(), recall[top].tolist(), logits, found_by)
    return tuple(ScoredItem(*line) for line in zip(*columns, strict=True))


def popular_items(snapshot: Snapshot, size: int, seen: Sequence[int]) -> tuple[ScoredItem, ...]:
    """The most popular items of the training window that the user has not seen."""
    left_out = set(seen)
    first = snapshot.data.popular[: size + len(left_out)]
    chosen = [(itemid, share) for itemid, share in first if itemid not in left_out]
    return tuple(ScoredItem(itemid, share, share, None, ("popular",)) for itemid, share in chosen[:size])
