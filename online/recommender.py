"""A request's way from a userid to a list:

    user -> candidates, while the user's features are on their way -> features -> scores -> order -> page

A service that cannot be used is left out, and the recommendation says so in `degraded`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from data_exchange_center.arrays import Int64Array
from data_exchange_center.assembler import RankingInputs, ranking_inputs, unknown_user
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from online.breakers import Breakers
from online.callers.types import Candidates, Impression, LiveUser, StoreFault, UserRecall
from online.interleaving import Coin, interleaved
from online.list_options import PLAIN, ListOptions
from online.ordering import Preference, popular_items, top_items
from online.recommendation import Ranking, Recommendation, Step
from online.reranking import needed, paged
from online.roles import ELASTICSEARCH, FEAST, REDIS, TRITON, Features, ServingBackends
from online.rules import Rules
from online.rules_file import RulesFile
from online.sessions import after_session, features_after
from online.shown import Shadow
from online.snapshot import Snapshot
from online.user_events import sequence_after

COLD_START = "cold_start"
COUNT_LIMIT = 256  # no dense feature reaches it: they are counts, stored in 8 bits


@dataclass(frozen=True, eq=False)
class Person:
    """For whom a list is.

    Attributes:
        found: the step that told who it is.
        user: what is known of them; None where nothing is.
        userid: by which the feature store knows them; None for a session.
        features: [40] of a session.
    """

    found: Step[Any]
    user: UserRecall | None
    userid: int | None = None
    features: Int64Array | None = None


class Way(NamedTuple):
    """One way to make a list: its arm's name, what the request goes by, and how the list is made."""

    name: str
    snapshot: Snapshot
    options: ListOptions


class Recommender:
    """Makes recommendations; one object for the life of the process, used by many threads."""

    def __init__(self, backends: ServingBackends, breakers: Breakers, rules: RulesFile | None = None) -> None:
        """Keeps the backends, which are called only where their breaker allows it, and the rules, if there are any."""
        self._backends, self._breakers = backends, breakers
        self._rules = rules or RulesFile()

    def recommend(self, snapshot: Snapshot, userid: int, size: int, options: ListOptions = PLAIN) -> Recommendation:
        """The top items for a user.

        Args:
            snapshot: what the request goes by.
            userid: as in the raw data; an unknown user gets popular items.
            size: how many items at most.
            options: what the request asks of the list.
        """
        return self._list(snapshot, self._person(userid, snapshot), size, options)

    def recommend_drafted(self, ways: tuple[Way, Way], userid: int, size: int, coin: Coin) -> Recommendation:
        """The top items for a user by two ways to make a list, whose items take turns; see interleaving.py.

        What both have in common, the user's data, features and candidates, is asked for once: only a way of another
        index has candidates of its own.

        Args:
            ways: alike in all but what two arms change.
            userid, size: as for `recommend`.
            coin: which of the ways picks first in a round, by the number of items that the user has seen.
        """
        one, other = ways
        person, rules = self._person(userid, one.snapshot), self._rules.current(one.snapshot.data)
        most = needed(size, rules)
        found = self._found(one.snapshot, person, most, one.options, rules)
        again = replace(person, userid=None, features=found.user_features)
        has_own = one.options.index != other.options.index and found.user is not None and not found.fallback
        of_other = self._found(other.snapshot, again, most, other.options, rules) if has_own else found
        first = self._ordered(found, one.snapshot, most, one.options, rules)
        second = self._ordered(of_other, other.snapshot, most, other.options, rules)
        seen = len(found.user.seen) if found.user else 0
        drafted = interleaved(first, second, (one.name, other.name), most, partial(coin, seen))
        options = one.options
        if options.diversity != other.options.diversity:
            options = replace(options, diversity=0.0)  # of the whole list neither can be said
        return paged(drafted, rules, size, options)

    def recommend_for_session(
        self, snapshot: Snapshot, session: Sequence[Impression], size: int, options: ListOptions = PLAIN
    ) -> Recommendation:
        """The top items for someone of whom these impressions are known and nothing else; nothing of them is kept.

        Args:
            snapshot, size, options: as for `recommend`.
            session: at least one impression, in the order in which they were made.
        """
        live = after_session(session, snapshot.data)
        made = Step.take(TRITON, partial(self._vector, live, snapshot))
        user = UserRecall(live.terms, made.value or (), live.seen, live.recent[-RANKER_IMPRESSIONS:])
        return self._list(snapshot, Person(made, user, features=features_after(live, snapshot.data)), size, options)

    def shadow(self, recommendation: Recommendation, version: str) -> Shadow | None:
        """What another version of the ranking model makes of a list's candidates; None where it has none.

        The breaker has no part in it: a version that is not loaded must not keep requests from the one that is.

        Args:
            recommendation: of a known user or a session.
            version: of the ranking model.

        Raises:
            ServiceUnavailable: the version is not loaded, or does not respond in time.
        """
        snapshot, user, features = recommendation.snapshot, recommendation.user, recommendation.user_features
        candidates = recommendation.candidates
        if user is None or features is None or not len(candidates) or TRITON in recommendation.degraded:
            return None
        inputs = inputs_of(user.recent, features, candidates, snapshot)
        ranking = self._scored(inputs, snapshot.with_ranking_version(version))
        rules = recommendation.rules
        preference = Preference(snapshot.data, rules, recommendation.options.diversity)
        places = {
            item.itemid: (place, item.score)
            for place, item in enumerate(top_items(candidates, ranking, len(candidates), preference), start=1)
            if item.itemid not in rules.pinned
        }
        of_list = [places.get(item.itemid, (0, 0.0)) for item in recommendation.items]
        return Shadow(version, [score for _, score in of_list], [place for place, _ in of_list])

    def _list(self, snapshot: Snapshot, person: Person, size: int, options: ListOptions) -> Recommendation:
        rules = self._rules.current(snapshot.data)
        most = needed(size, rules)
        found = self._found(snapshot, person, most, options, rules)
        return paged(self._ordered(found, snapshot, most, options, rules), rules, size, options)

    def _found(
        self, snapshot: Snapshot, person: Person, size: int, options: ListOptions, rules: Rules
    ) -> Recommendation:
        """The candidates, not in order yet; popular items, in order, where there is no way to candidates."""
        # The user.
        found, user, within = person.found, person.user, options.filter
        if user is None or not (user.vector or user.terms):
            items = popular_items(snapshot.data, size, user.seen if user else (), within, rules)
            return Recommendation(snapshot, items, (found,), user, fallback=COLD_START if found.available else None)

        # Candidates, while the user's features are on their way.
        receive_features = None if person.userid is None else self._request_features(person.userid, snapshot)
        recalled = Step.take(ELASTICSEARCH, partial(self._candidates, user, options, snapshot))
        received = None if receive_features is None else Step.take(FEAST, receive_features)
        features = person.features if received is None else received.value
        features = unknown_user(snapshot.data.features) if features is None else features
        steps: tuple[Step[Any], ...] = (found, recalled, *([received] if received else []))
        if recalled.value is None:
            items = popular_items(snapshot.data, size, user.seen, within, rules)
            return Recommendation(snapshot, items, steps, user, features)
        return Recommendation(snapshot, (), steps, user, features, recalled.value)

    def _ordered(
        self, found: Recommendation, snapshot: Snapshot, size: int, options: ListOptions, rules: Rules
    ) -> Recommendation:
        """The first of the candidates in order: by their scores, and by what is preferred."""
        candidates, user, features = found.candidates, found.user, found.user_features
        if not len(candidates) or user is None or features is None:
            return found
        preference = Preference(snapshot.data, rules, options.diversity)
        if not options.is_ranked:
            return replace(found, snapshot=snapshot, items=top_items(candidates, None, size, preference))
        scored = Step.take(TRITON, partial(self._ranking, user, features, candidates, snapshot))
        items = top_items(candidates, scored.value, size, preference)
        steps = (*found.steps, scored)
        return replace(found, snapshot=snapshot, items=items, steps=steps, ranking=scored.value)

    def _person(self, userid: int, snapshot: Snapshot) -> Person:
        found = Step.take(REDIS, partial(self._user, userid, snapshot))
        return Person(found, found.value, userid)

    def _user(self, userid: int, snapshot: Snapshot) -> UserRecall | None:
        with self._breakers.use(REDIS):
            user = self._backends.recall_store.user(userid, snapshot.data.load_digest)
            snapshot.data.check_user(REDIS, userid, user is not None)
            return user

    def _vector(self, user: LiveUser, snapshot: Snapshot) -> tuple[float, ...]:
        """What the user tower makes of the user's impressions."""
        with self._breakers.use(TRITON):
            sequence = sequence_after(user.recent, snapshot.data, TOWER_IMPRESSIONS)
            vectors, tower = self._backends.user_tower.user_vectors(*sequence)
            snapshot.data.expected.check_model(tower)
            return tuple(vectors[0].tolist())

    def _candidates(self, user: UserRecall, options: ListOptions, snapshot: Snapshot) -> Candidates:
        data, within = snapshot.data, options.filter
        possible = len(data.items) - len(user.seen)
        if within.narrows:  # else the exact number is not worth its time
            possible = int(data.table.admitted(within, user.seen).sum())
        with self._breakers.use(ELASTICSEARCH):
            return self._backends.recall_index.recall(user, possible, data.load_digest, within, options.index)

    def _request_features(self, userid: int, snapshot: Snapshot) -> Callable[[], Int64Array]:
        """Sends the request for the user's features; the function returned waits for them and checks them."""

        def request() -> Callable[[], Int64Array]:
            receive = self._backends.feature_store.request_features(snapshot.data.features, "user", [userid])
            return lambda: checked_features(userid, receive(), snapshot)

        return self._breakers.send(FEAST, request)

    def _ranking(self, user: UserRecall, features: Int64Array, candidates: Candidates, snapshot: Snapshot) -> Ranking:
        inputs = inputs_of(user.recent, features, candidates, snapshot)
        with self._breakers.use(TRITON):
            return self._scored(inputs, snapshot)

    def _scored(self, inputs: RankingInputs, snapshot: Snapshot) -> Ranking:
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
