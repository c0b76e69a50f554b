"""Establishes that two events of one user at once both count, and what the real Redis's caller makes of odd content."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import redis

from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.serving_load import load_digest
from data_exchange_center.serving_names import (
    REDIS_EVENTS,
    REDIS_FILTER,
    REDIS_LOAD,
    REDIS_RECENT,
    REDIS_TERM,
    REDIS_UNPUSHED,
    REDIS_USER_KEYS,
)
from data_exchange_center.settings import Settings
from online.callers.redis_caller import RedisCaller, redis_client
from online.callers.types import Impression, LiveUser, ServiceUnavailable, StoreFault, UserRecall
from online.serving_data import ServingData
from tests.conftest import Stack
from tests.online.stand_ins import DATA

new_users = itertools.count(10**12)  # no data set has them, and each test gets its own


@pytest.fixture
def client(served: Stack) -> Iterator[redis.Redis]:
    with redis_client(Settings(), 5) as client:
        yield client


@pytest.fixture
def userid(client: redis.Redis) -> Iterator[int]:
    """A user whom nobody knows, before the test and after it."""
    userid = next(new_users)
    yield userid
    client.delete(*(key.format(userid) for key in REDIS_USER_KEYS))
    client.srem(REDIS_UNPUSHED, userid)


@pytest.fixture
def caller(served: Stack) -> RedisCaller:
    return RedisCaller(Settings(), 5)


def impressions_of(*items: int) -> tuple[Impression, ...]:
    return tuple(Impression(item, 5.0, 1) for item in items)


def rate(*items: int) -> Callable[[LiveUser], LiveUser]:
    """The change that adds an impression of each of these items."""

    def change(user: LiveUser) -> LiveUser:
        added = impressions_of(*items)
        return LiveUser(("Drama",), (*user.seen, *items), (*user.recent, *added), (*user.events, *added))

    return change


def test_a_new_user_is_written_read_and_waits_for_feast(caller: RedisCaller, userid: int) -> None:
    assert caller.user(userid) is None and caller.recent([userid]) == [()]
    assert caller.update({userid: rate(7, 8)}) == {userid: 2}
    assert caller.user(userid) == UserRecall(("Drama",), (), (7, 8), impressions_of(7, 8))
    assert caller.recent([userid]) == [(Impression(7, 5.0, 1), Impression(8, 5.0, 1))]
    assert caller.events()[userid] == (Impression(7, 5.0, 1), Impression(8, 5.0, 1))
    assert userid in caller.unpushed()
    caller.pushed(userid)
    assert userid not in caller.unpushed()


def test_two_events_of_one_user_at_once_both_count(caller: RedisCaller, userid: int) -> None:
    """The second is written between the first one's reading and writing; Redis's WATCH makes the first begin again."""
    other, attempts = RedisCaller(Settings(), 5), []

    def interrupted(user: LiveUser) -> LiveUser:
        attempts.append(user.seen)
        if len(attempts) == 1:
            assert other.update({userid: rate(2)}) == {userid: 1}
        return rate(1)(user)

    assert caller.update({userid: interrupted}) == {userid: 1}
    assert attempts == [(), (2,)]  # it was called again, with the state that the other had written
    assert [event.itemid for event in caller.events()[userid]] == [2, 1]
    assert caller.user(userid) == UserRecall(("Drama",), (), (2, 1), impressions_of(2, 1))


def test_users_of_one_list_change_together(caller: RedisCaller, userid: int, client: redis.Redis) -> None:
    second = next(new_users)
    client.set(REDIS_RECENT.format(second), "no JSON")
    try:
        with pytest.raises(ServiceUnavailable, match="redis"):
            caller.update({userid: rate(1), second: rate(2)})
        assert caller.user(userid) is None and userid not in caller.events() and userid not in caller.unpushed()
    finally:
        client.delete(REDIS_RECENT.format(second))


def test_a_request_gets_no_more_impressions_than_the_ranking_model_looks_at(caller: RedisCaller, userid: int) -> None:
    caller.update({userid: rate(*range(1, TOWER_IMPRESSIONS + 1))})
    user = caller.user(userid)
    assert (
        user is not None and user.recent == impressions_of(*range(81, 101)) and len(user.recent) == RANKER_IMPRESSIONS
    )
    assert len(caller.recent([userid])[0]) == TOWER_IMPRESSIONS


def test_a_vector_is_of_the_newest_impressions_or_is_not_written(caller: RedisCaller, userid: int) -> None:
    caller.update({userid: rate(1)})
    assert caller.set_vector(userid, impressions_of(1), np.float32([0.1, 2])) is True
    caller.update({userid: rate(2)})
    assert caller.set_vector(userid, impressions_of(1), np.float32([9, 9])) is False
    user = caller.user(userid)
    assert user is not None and user.vector == (float(np.float32(0.1)), 2.0)


def test_an_event_between_reading_and_writing_a_vector_is_seen(
    caller: RedisCaller, userid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RedisCaller(Settings(), 5)
    caller.update({userid: rate(1)})
    get, calls = caller._client.get, []

    def interrupted(key: str) -> object:
        found = get(key)
        calls.append(key)
        if len(calls) == 1:
            other.update({userid: rate(2)})
        return found

    monkeypatch.setattr(caller._client, "get", interrupted)
    assert caller.set_vector(userid, impressions_of(1), np.float32([9])) is False and len(calls) == 2
    user = caller.user(userid)
    assert user is not None and user.vector == ()


def test_a_change_to_the_same_object_writes_nothing(caller: RedisCaller, userid: int) -> None:
    assert caller.update({userid: lambda user: user}) == {userid: 0}
    assert caller.update({}) == {}
    assert caller.user(userid) is None and userid not in caller.events() and userid not in caller.unpushed()


def test_a_load_between_two_events_is_seen(caller: RedisCaller, userid: int, client: redis.Redis) -> None:
    """The loader removes the events and replaces the user; the next event moves on what it wrote."""
    caller.update({userid: rate(1)})
    client.delete(REDIS_EVENTS.format(userid))
    client.mset({REDIS_FILTER.format(userid): "[9]", REDIS_RECENT.format(userid): "[[9, 3.0, 5]]"})
    seen: list[LiveUser] = []
    caller.update({userid: lambda user: seen.append(user) or replace(user, terms=("War",))})  # type: ignore[func-returns-value]
    assert seen == [LiveUser(("Drama",), (9,), (Impression(9, 3.0, 5),), ())]
    assert caller.user(userid) == UserRecall(("War",), (), (9,), (Impression(9, 3.0, 5),))


@pytest.mark.parametrize("content", ["no JSON", '{"a": 1}', "[1, null]", "[[1]]"])
def test_other_content_than_was_loaded_is_unavailable(
    content: str, caller: RedisCaller, userid: int, client: redis.Redis
) -> None:
    client.mset({REDIS_TERM.format(userid): '["Drama"]', REDIS_FILTER.format(userid): content})
    with pytest.raises(ServiceUnavailable, match="redis"):
        caller.user(userid)
    client.set(REDIS_RECENT.format(userid), content)
    with pytest.raises(ServiceUnavailable, match="redis"):
        caller.recent([userid])


@pytest.mark.parametrize("lost", [REDIS_TERM, REDIS_FILTER, REDIS_RECENT])
def test_a_single_key_that_is_lost_is_a_fault_and_no_empty_list(
    lost: str, caller: RedisCaller, userid: int, client: redis.Redis
) -> None:
    """Redis may have evicted it: what the user has seen would be recommended again."""
    caller.update({userid: rate(1)})
    client.delete(lost.format(userid))
    for call in (lambda: caller.user(userid), lambda: caller.update({userid: rate(2)})):
        with pytest.raises(StoreFault, match=re.escape(f"has lost {lost.format(userid)}")):
            call()
    assert not client.exists(lost.format(userid)) and len(caller.events()[userid]) == 1


def test_the_load_is_told_and_compared(caller: RedisCaller, userid: int, client: redis.Redis) -> None:
    present = load_digest()
    assert caller.loaded() == present
    caller.ping(ServingData.load().expected)
    assert caller.user(userid, present) is None
    try:
        for held, told in ((b"another", "the load another"), (None, "no load")):
            client.set(REDIS_LOAD, held) if held else client.delete(REDIS_LOAD)
            for call in (
                lambda: caller.user(userid, present),
                lambda: caller.update({userid: rate(1)}, present),
                lambda: caller.ping(ServingData.load().expected),
            ):
                with pytest.raises(StoreFault, match=f"holds {told}, and the artefacts are of {present}"):
                    call()
            assert caller.user(userid) is None
    finally:
        client.set(REDIS_LOAD, present)


def test_a_missing_server_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PORT", "1")
    caller = RedisCaller(Settings(), 1)
    for call in (
        lambda: caller.ping(DATA.expected),
        caller.loaded,
        caller.events,
        caller.unpushed,
        lambda: caller.user(1),
        lambda: caller.recent([1]),
        lambda: caller.pushed(1),
        lambda: caller.set_vector(1, (), np.float32([1])),
        lambda: caller.update({1: rate(1)}),
    ):
        with pytest.raises(ServiceUnavailable, match="redis"):
            call()
