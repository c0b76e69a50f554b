"""Establishes the request's flow with stand-ins for the services: order, filters, fallbacks, and who is left out."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data_exchange_center.elasticsearch_scores import TERM_BONUS
from online.breakers import FAILURES, RETRY_SECONDS
from online.callers.types import ServedModel, ServiceUnavailable
from online.engine import Engine
from testkit.dataset import FEATURES
from tests.online.stand_ins import DATA, Make, Services, backends_of


def ids(engine: Engine, userid: int = 1, size: int = 50) -> list[int]:
    return [item.itemid for item in engine.recommend(userid, size).items]


def test_the_order_is_that_of_the_rank_score(make: Make) -> None:
    services = Services()
    found = make(services).recommend(1, 50)
    assert [(i.itemid, i.score, i.recall_score, i.logit) for i in found.items] == [
        (2, 8.0, pytest.approx(1.0), 4.0),
        (1, 0.0, pytest.approx(2 + TERM_BONUS), 0.0),
        (4, 0.0, pytest.approx(1 + TERM_BONUS), 0.0),
    ]
    assert [i.recalled_by for i in found.items] == [("vector",), ("term", "vector"), ("term",)]
    assert found.model_version == "7" and services.saw_features and not found.degraded and not found.fallback
    assert list(found.stages) == ["redis", "elasticsearch", "feast", "triton"]
    assert services.saw_recent == [(0, 0)] * 18 + [(5, 1), (3, 0)]  # the user's last impressions, the newest last


def test_ties_are_broken_by_item_and_size_cuts(make: Make) -> None:
    assert ids(make(Services(logits=(0.0, 0.0, -2.0)))) == [1, 2, 4]
    assert ids(make(Services()), size=1) == [2]


def test_an_unknown_user_gets_popular_items(make: Make) -> None:
    found = make(Services()).recommend(99, 3)
    assert [i.itemid for i in found.items] == [5, 4, 3]
    assert found.fallback == "cold_start" and not found.degraded


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
    engine = make(services)
    found = engine.recommend(1, 50)
    assert [i.itemid for i in found.items] == expected and found.degraded == [down] and not found.fallback
    services.down = ()
    engine.freshness.refresh()
    assert not engine.recommend(1, 50).degraded  # and used again when it returns


def test_all_services_down_still_gets_a_list(make: Make) -> None:
    assert ids(make(Services(("redis", "elasticsearch", "feast", "triton")))) == [5, 4, 3, 2, 1]


def test_a_dead_service_is_left_alone_and_tried_again(make: Make) -> None:
    services = Services(("elasticsearch",))
    engine = make(services)
    services.calls.clear()
    for _ in range(50):
        assert engine.recommend(1, 5).degraded == ["elasticsearch"]
    assert services.calls.count("elasticsearch") == FAILURES  # 47 requests did not ask it
    assert engine.breakers.states()["elasticsearch"] == "open"
    services.down = ()
    time.sleep(RETRY_SECONDS)
    assert not engine.recommend(1, 5).degraded and engine.breakers.states()["elasticsearch"] == "closed"


@pytest.mark.parametrize("sends", [True, False])
def test_a_feature_store_that_fails_is_left_alone_whichever_half_fails(make: Make, sends: bool) -> None:
    """That a request could be sent is no success: it would set the breaker back each time."""
    services = Services()
    engine = make(services)
    tried = []

    def request_features(*_: object) -> Callable[[], Any]:
        tried.append(1)
        if not sends:
            raise ServiceUnavailable("feast", "cannot be reached")
        return lambda: services.features(FEATURES, "user", [1])

    services.request_features = request_features  # type: ignore[method-assign]
    services.down = ("feast",)
    for _ in range(50):
        assert engine.recommend(1, 5).degraded == ["feast"]
    assert len(tried) == FAILURES and engine.breakers.states()["feast"] == "open"
    services.down, sends = (), True
    time.sleep(RETRY_SECONDS)
    assert not engine.recommend(1, 5).degraded and engine.breakers.states()["feast"] == "closed"


def test_a_fault_in_the_search_is_not_counted_against_the_feature_store(make: Make) -> None:
    services = Services()
    engine = make(services)
    recall = services.recall

    def faulty(*_: object) -> Any:
        raise RuntimeError("a fault that nobody foresaw")

    services.recall = faulty  # type: ignore[method-assign]
    for _ in range(FAILURES):
        with pytest.raises(RuntimeError):
            engine.recommend(1, 5)
    assert engine.breakers.states()["feast"] == "closed" and engine.breakers.states()["elasticsearch"] == "open"
    services.recall = recall  # type: ignore[method-assign]
    assert engine.recommend(1, 5).degraded == ["elasticsearch"]


def test_calls_to_one_service_are_not_queued_behind_each_other(make: Make) -> None:
    """A breaker that held its lock during the call would serve one thread at a time."""
    services, meeting = Services(), threading.Barrier(3, timeout=5)
    engine = make(services)

    def user(userid: int, load: str) -> None:
        meeting.wait()

    services.user = user  # type: ignore[method-assign]
    threads = [threading.Thread(target=engine.recommend, args=(1, 5)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meeting.broken


def test_a_model_of_other_features_is_not_used(make: Make) -> None:
    services = Services()
    services.model = ServedModel("8", (), "another hash", "", "l")
    engine = make(services)
    found = engine.recommend(1, 50)
    assert found.degraded == ["triton"] and found.model_version is None
    assert [i.itemid for i in found.items] == [1, 4, 2] and found.items[0].logit is None
    for _ in range(FAILURES):
        engine.recommend(1, 50)
    assert engine.breakers.states()["triton"] == "closed"  # the service itself works


def test_features_out_of_their_vocabulary_are_not_used(make: Make) -> None:
    """They would be another's row of the embedding table, or none at all."""
    services = Services()
    engine = make(services)
    services.features = lambda *_: (np.full((1, 40), 2), np.ones(1, bool))  # type: ignore[method-assign]
    found = engine.recommend(1, 5)
    assert found.degraded == ["feast"] and found.user_features is not None and not found.user_features.any()


def test_a_new_users_history_is_used_although_their_profile_is_unknown(make: Make) -> None:
    services = Services()
    engine = make(services)
    features = np.r_[np.zeros(4, np.int64), np.ones(36, np.int64)][None]
    services.features = lambda *_: (features, np.zeros(1, bool))  # type: ignore[method-assign]
    services.users[42] = services.users[1]
    found = engine.recommend(42, 5)
    assert found.user_features is not None and found.user_features.tolist() == features[0].tolist()
    assert not found.degraded


def test_warming_up_ends_once_all_services_respond_and_when_the_time_is_over(make: Make) -> None:
    services = Services(("elasticsearch",))
    engine = make(services)
    services.calls.clear()
    began = time.monotonic()
    engine.warm_up(0.6)
    assert 0.6 <= time.monotonic() - began < 2 and 2 <= services.calls.count("redis") <= 4
    services.down = ()
    time.sleep(RETRY_SECONDS)
    services.calls.clear()
    engine.warm_up(10)
    assert services.calls.count("triton") == 8


# --- stores that have lost something, or hold another load -----------------------------------------------------------


def test_a_user_whom_the_artefacts_know_is_no_cold_start(make: Make) -> None:
    services = Services()
    engine = make(services)
    del services.users[1]
    for _ in range(FAILURES):
        found = engine.recommend(1, 50)
        assert found.degraded == ["redis"] and not found.fallback and len(found.items) == 5
    assert engine.breakers.states()["redis"] == "closed"  # it is this user who is lost


def test_a_user_without_features_is_degraded_and_a_new_one_is_not(make: Make) -> None:
    services = Services()
    services.users[42] = services.users[1]
    engine = make(services)
    services.lost = {1, 42}
    assert engine.recommend(1, 50).degraded == ["feast"] and engine.breakers.states()["feast"] == "closed"
    assert not engine.recommend(42, 50).degraded


def test_items_that_the_feature_store_has_lost_are_not_taken_for_unknown(make: Make) -> None:
    services = Services()
    services.lost = {4}
    engine = make(services)
    assert engine.recommend(1, 50).degraded == ["feast"]
    services.lost = set()
    engine.freshness.refresh()
    assert not engine.recommend(1, 50).degraded
    services.lost = {4}
    engine.freshness.refresh()
    assert not engine.recommend(1, 50).degraded  # what was read before is still right


def test_stores_of_another_load_are_not_used(make: Make) -> None:
    services = Services()
    engine = make(services)
    services.load = "another"
    assert engine.recommend(1, 50).degraded == ["redis"]
    services.load = "l"
    services.model = ServedModel("8", (), "h", "", "another")
    found = engine.recommend(1, 50)
    assert found.degraded == ["triton"] and [item.itemid for item in found.items] == [1, 4, 2]


def test_new_artefacts_are_used_once_the_stores_hold_them() -> None:
    services, state = Services(), ["one"]
    second = replace(DATA, dataset="other", load_digest="m")
    engine = changing_engine(services, state, second, 0.01)
    state[0] = "two"
    engine.freshness.refresh()
    assert engine.snapshot.data.dataset == "five items" and not engine.recommend(1, 5).degraded
    services.load = "m"
    services.model = replace(services.model, load_digest="m")
    deadline = time.monotonic() + 5
    while engine.snapshot.data.dataset != "other" and time.monotonic() < deadline:
        time.sleep(0.01)
    found = engine.recommend(1, 5)
    engine.close()
    assert found.snapshot.data is second and not found.degraded


def changing_engine(services: Services, state: list[str], second: Any, refresh_seconds: float) -> Engine:
    """On DATA while `state` is ["one"], then on `second`."""
    data = {"one": DATA, "two": second}
    return Engine(backends_of(services), lambda: data[state[0]], lambda: state[0], refresh_seconds, 2)


def test_artefacts_that_change_are_read_again() -> None:
    state = ["one"]
    engine = changing_engine(Services(), state, replace(DATA, dataset="other"), 0.01)
    state[0] = "two"
    deadline = time.monotonic() + 5
    while engine.snapshot.data.dataset != "other" and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.close()
    assert engine.snapshot.data.dataset == "other"


@pytest.mark.parametrize(("size", "degraded"), [(1, []), (2, ["feast"])])
def test_a_request_goes_by_one_snapshot_although_another_comes_meanwhile(size: int, degraded: list[str]) -> None:
    """The features are checked against the vocabulary of the data that the request began with.

    Index 1 is valid in a vocabulary of two and not in one of one; the two change places during the request.
    """
    sizes = {1: dict.fromkeys(DATA.vocabulary_sizes, 2), 2: dict.fromkeys(DATA.vocabulary_sizes, 1)}
    first = replace(DATA, vocabulary_sizes=sizes[size])
    second = replace(DATA, dataset="other", feature_hash="other", popular=(), vocabulary_sizes=sizes[3 - size])
    services, data = Services(), {"one": first, "two": second}
    state = ["one"]
    engine = Engine(backends_of(services), lambda: data[state[0]], lambda: state[0], 60.0, 2)
    features = services.features

    def reloaded_meanwhile(*arguments: Any) -> Any:
        services.features = features  # type: ignore[method-assign]
        state[0] = "two"
        engine.freshness.refresh()
        return features(*arguments)

    services.features = reloaded_meanwhile  # type: ignore[method-assign]
    found = engine.recommend(1, 50)
    engine.close()
    assert engine.snapshot.data is second and found.snapshot.data is first
    assert found.degraded == degraded and found.model_version == "7"  # the model's hash is the first data's, too
