"""Establishes the request's flow with stand-ins for the services: order, filters, fallbacks, and who is left out."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from data_exchange_center.features import SPARSE_COLUMNS, Entity, entity_columns
from data_exchange_center.scoring import TERM_BOOST, VECTOR_BOOST
from online.callers.types import Candidates, Impression, LiveUser, ServedModel, ServiceUnavailable, UserRecall
from online.recommender import FAILURES, RETRY_SECONDS, Callers, Recommender
from online.serving_data import ServingData, Title

DATA = ServingData(
    dataset="five items",
    feature_hash="h",
    sizes=dict.fromkeys(SPARSE_COLUMNS, 2),
    users=(1,),
    titles={item: Title(f"Item {item}", ("Drama",)) for item in range(1, 6)},
    popular=((5, 1.0), (4, 0.8), (3, 0.6), (2, 0.4), (1, 0.2)),
)
USER = UserRecall(("Drama",), (1.0,), (5, 3))
CANDIDATES = Candidates(
    itemids=np.array([1, 2, 4]),
    es_scores=np.array([0.1 + 0.9 * 3.0, 0.9 * 2.0, 0.1]),  # inner products 2, 1, and the least of them: 1
    by_term=np.array([True, False, True]),
    by_vector=np.array([True, True, False]),
)


class Services:
    """Answers like the four services; `down` names those that do not."""

    def __init__(self, down: tuple[str, ...] = (), logits: Sequence[float] = (0.0, 4.0, 0.0)) -> None:
        self.down, self.logits = down, logits
        self.model = ServedModel("7", (), "h", "", 0.5)
        self.users = {1: USER}
        self.live: dict[int, LiveUser] = {}
        self.calls: list[str] = []
        self.in_feast: dict[int, Mapping[str, int]] = {}
        self.waiting: set[int] = set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.down:
            raise ServiceUnavailable(name, "down")

    def ping(self) -> None:
        """Which service is asked cannot be told apart here; see the end-to-end test."""

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        self._call("redis")
        return [self.live[userid].recent if userid in self.live else () for userid in userids]

    def update(self, userid: int, change: Callable[[LiveUser], LiveUser]) -> LiveUser:
        self._call("redis")
        before = self.live.get(userid, LiveUser((), (), (), ()))
        after = self.live[userid] = change(before)
        if after is not before:
            self.users[userid] = UserRecall(after.terms, (), after.seen)
            self.waiting.add(userid)
        return after

    def pushed(self, userid: int) -> None:
        self.waiting.discard(userid)

    def unpushed(self) -> list[int]:
        self._call("redis")
        return sorted(self.waiting)

    def push_user(self, userid: int, values: Mapping[str, int], moment_ns: int) -> None:
        self._call("feast")
        self.in_feast[userid] = values

    def user(self, userid: int) -> UserRecall | None:
        self._call("redis")
        return self.users.get(userid)

    def recall(self, user: UserRecall, items: int) -> Candidates:
        self._call("elasticsearch")
        return CANDIDATES

    def features(self, entity: Entity, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        self._call("feast")
        return np.ones((len(ids), len(entity_columns(entity))), np.int64), np.ones(len(ids), bool)

    all_features = features

    def ask(self, entity: Entity, ids: Sequence[int]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        return lambda: self.features(entity, ids)

    def score(self, sparse: np.ndarray, dense: np.ndarray) -> tuple[np.ndarray, ServedModel]:
        self._call("triton")
        assert sparse.shape == (3, 23) and dense.shape == (3, 36)
        self.saw_features = bool(sparse.any())
        return np.array(self.logits, np.float32), self.model


BONUS = TERM_BOOST / VECTOR_BOOST  # of what the terms query found
Make = Callable[[Services], Recommender]


@pytest.fixture
def make() -> Iterator[Make]:
    made = []

    def build(services: Services) -> Recommender:
        made.append(Recommender(Callers(services, services, services, services), lambda: DATA, 60.0, 2))
        return made[-1]

    yield build
    for recommender in made:
        recommender.close()


def ids(recommender: Recommender, userid: int = 1, size: int = 50) -> list[int]:
    return [item.itemid for item in recommender.recommend(userid, size).items]


def test_the_order_is_that_of_the_final_score(make: Make) -> None:
    services = Services()
    answer = make(services).recommend(1, 50)
    assert [(i.itemid, i.score, i.recall_score, i.logit) for i in answer.items] == [
        (2, pytest.approx(3.0), pytest.approx(1.0), 4.0),
        (1, pytest.approx(2 + BONUS), pytest.approx(2 + BONUS), 0.0),
        (4, pytest.approx(1 + BONUS), pytest.approx(1 + BONUS), 0.0),
    ]
    assert [i.recalled_by for i in answer.items] == [("vector",), ("term", "vector"), ("term",)]
    assert answer.model_version == "7" and services.saw_features and not answer.degraded and not answer.fallback


def test_ties_are_broken_by_item_and_size_cuts(make: Make) -> None:
    assert ids(make(Services(logits=(-2.0, 0.0, 0.0)))) == [1, 4, 2]
    assert ids(make(Services()), size=1) == [2]


def test_an_unknown_user_gets_popular_items(make: Make) -> None:
    answer = make(Services()).recommend(99, 3)
    assert [i.itemid for i in answer.items] == [5, 4, 3]
    assert answer.fallback == "cold_start" and not answer.degraded


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ("redis", [5, 4, 3, 2, 1]),
        ("elasticsearch", [4, 2, 1]),  # popular, without what the user has seen
        ("feast", [2, 1, 4]),
        ("triton", [1, 4, 2]),  # by the recall score
    ],
)
def test_a_service_that_is_down_is_left_out(make: Make, down: str, expected: list[int]) -> None:
    services = Services((down,))
    recommender = make(services)
    answer = recommender.recommend(1, 50)
    assert [i.itemid for i in answer.items] == expected and set(answer.degraded) == {down}
    services.down = ()
    recommender.refresh()
    assert not recommender.recommend(1, 50).degraded  # and used again when it returns


def test_all_services_down_still_answers(make: Make) -> None:
    assert ids(make(Services(("redis", "elasticsearch", "feast", "triton")))) == [5, 4, 3, 2, 1]


def test_a_dead_service_is_left_alone_and_tried_again(make: Make) -> None:
    services = Services(("elasticsearch",))
    recommender = make(services)
    services.calls.clear()
    for _ in range(50):
        assert recommender.recommend(1, 5).degraded == ["elasticsearch"]
    assert services.calls.count("elasticsearch") == FAILURES  # 47 requests did not ask it
    assert recommender.breaker_states()["elasticsearch"] == "open"
    services.down = ()
    time.sleep(RETRY_SECONDS)
    assert not recommender.recommend(1, 5).degraded and recommender.breaker_states()["elasticsearch"] == "closed"


def test_calls_to_one_service_are_not_queued_behind_each_other(make: Make) -> None:
    """A breaker that held its lock during the call would serve one thread at a time."""
    services, meeting = Services(), threading.Barrier(3, timeout=5)
    recommender = make(services)

    def user(userid: int) -> None:
        meeting.wait()

    services.user = user  # type: ignore[method-assign]
    threads = [threading.Thread(target=recommender.recommend, args=(1, 5)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meeting.broken


def test_a_model_of_other_features_is_not_used(make: Make) -> None:
    services = Services()
    services.model = ServedModel("8", (), "another hash", "", 0.5)
    answer = make(services).recommend(1, 50)
    assert answer.degraded == ["triton"] and answer.model_version is None
    assert [i.itemid for i in answer.items] == [1, 4, 2] and answer.items[0].logit is None


def test_features_out_of_their_vocabulary_are_not_used(make: Make) -> None:
    """They would be another's row of the embedding table, or none at all."""
    services = Services()
    recommender = make(services)
    services.features = lambda entity, ids: (np.full((1, 40), 2), np.ones(1, bool))  # type: ignore[method-assign]
    answer = recommender.recommend(1, 5)
    assert answer.degraded == ["feast"] and answer.user_features is not None and not answer.user_features.any()


def test_artefacts_that_change_are_read_again() -> None:
    services, state = Services(), ["one"]
    data = {"one": DATA, "two": ServingData("other", "h", DATA.sizes, (1,), DATA.titles, DATA.popular)}
    recommender = Recommender(
        Callers(services, services, services, services), lambda: data[state[0]], 0.01, 2, lambda: state[0]
    )
    state[0] = "two"
    deadline = time.monotonic() + 5
    while recommender.data.dataset != "other" and time.monotonic() < deadline:
        time.sleep(0.01)
    recommender.close()
    assert recommender.data.dataset == "other"


def test_events_count_once_and_reach_both_stores(make: Make) -> None:
    services = Services()
    recommender = make(services)
    events = [Impression(item, 5.0, 10) for item in (1, 2, 3)]
    assert recommender.record(42, events) == (3, True)
    assert recommender.record(42, events) == (0, True)
    assert services.live[42].terms == ("Drama",) and services.live[42].seen == (1, 2, 3)
    assert services.in_feast[42]["clk_drama"] == services.in_feast[42]["imp_drama"] == 3 and not services.waiting
    assert recommender.recommend(42, 5).fallback is None  # it has liked genres now


def test_events_that_feast_missed_follow(make: Make) -> None:
    services = Services(("feast",))
    recommender = make(services)
    assert recommender.record(42, [Impression(1, 2.0, 10)]) == (1, False)
    assert services.waiting == {42} and 42 not in services.in_feast
    services.down = ()
    time.sleep(RETRY_SECONDS)
    recommender.refresh()
    assert services.in_feast[42]["imp_drama"] == 1 and services.in_feast[42]["clk_drama"] == 0 and not services.waiting


def test_without_redis_no_event_is_half_recorded(make: Make) -> None:
    services = Services(("redis",))
    recommender = make(services)
    with pytest.raises(ServiceUnavailable, match="redis"):
        recommender.record(42, [Impression(1, 2.0, 10)])
    assert not services.live and not services.in_feast
