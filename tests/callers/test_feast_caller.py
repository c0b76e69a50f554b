"""Establishes what is read from the real Feast and pushed to it: order, unknown entities, and which push wins."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
import orjson
import pytest

from data_exchange_center import catalogue
from data_exchange_center.features import Entity
from data_exchange_center.settings import Settings
from online.callers import feast_caller
from online.callers.feast_caller import FeastCaller
from online.callers.types import ServiceUnavailable
from testkit.dataset import FEATURES
from tests.conftest import Stack
from tests.online.stand_ins import DATA

PROFILE = tuple(name for name in FEATURES.entity_columns("user") if name not in FEATURES.history_counts)
new_users = itertools.count(10**12)  # no data set has them, and each test gets its own


@pytest.fixture
def caller(served: Stack) -> FeastCaller:
    return FeastCaller(Settings(), 10)


@pytest.fixture
def new_user() -> int:
    return next(new_users)


def history(caller: FeastCaller, userid: int) -> dict[str, int]:
    values = caller.features(FEATURES, "user", [userid]).values[0]
    row = dict(zip(FEATURES.user_columns, values.tolist(), strict=True))
    return {name: row[name] for name in FEATURES.history_counts}


@pytest.mark.parametrize("entity", ["user", "item"])
def test_features_come_in_the_declared_order(entity: Entity, caller: FeastCaller) -> None:
    table = (catalogue.USER_FEATURES if entity == "user" else catalogue.ITEM_FEATURES).load().to_pandas()
    table = table.sample(7, random_state=0)
    ids = table.iloc[:, 0].tolist()
    for values, known in (
        caller.features(FEATURES, entity, ids),
        caller.all_features(FEATURES, entity, ids),
        caller.request_features(FEATURES, entity, ids)(),
    ):
        assert known.all() and values.dtype == np.int64
        np.testing.assert_array_equal(values, table[list(FEATURES.entity_columns(entity))].to_numpy())
    none = caller.all_features(FEATURES, entity, [])
    assert none.values.shape == (0, len(FEATURES.entity_columns(entity))) and not len(none.known)


def test_an_entity_that_feast_lacks_is_unknown_and_zeros(caller: FeastCaller, new_user: int) -> None:
    """Feast's Redis store calls it PRESENT, with null as its value."""
    someone = catalogue.USER_FEATURES.load()["userid"].to_pylist()[0]
    values, known = caller.features(FEATURES, "user", [new_user, someone])
    assert known.tolist() == [False, True] and not values[0].any() and values[1].any()


def test_a_new_user_with_events_is_known_by_the_history_alone(caller: FeastCaller, new_user: int) -> None:
    caller.push_history(
        FEATURES, new_user, {name: place for place, name in enumerate(FEATURES.history_counts)}, time.time_ns()
    )
    values, known = caller.request_features(FEATURES, "user", [new_user])()
    row = dict(zip(FEATURES.entity_columns("user"), values[0].tolist(), strict=True))
    assert known.tolist() == [True] and [row[name] for name in PROFILE] == [0] * len(PROFILE)
    assert [row[name] for name in FEATURES.history_counts] == list(range(len(FEATURES.history_counts)))


def test_a_push_leaves_the_profile_alone(caller: FeastCaller) -> None:
    """It does not even read it: the very same counts are pushed, so that the other tests find what they expect."""
    table = catalogue.USER_FEATURES.load().to_pandas().set_index("userid")
    userid = int(table.index[3])
    before = caller.features(FEATURES, "user", [userid])
    caller.push_history(
        FEATURES, userid, {name: int(table.loc[userid, name]) for name in FEATURES.history_counts}, time.time_ns()
    )
    np.testing.assert_array_equal(caller.features(FEATURES, "user", [userid]).values, before.values)


@pytest.mark.parametrize("arrive_in_order", [True, False])
def test_of_two_pushes_the_later_reading_wins(arrive_in_order: bool, caller: FeastCaller, new_user: int) -> None:
    """Whichever arrives last: a microsecond apart is enough."""
    moment = time.time_ns()
    pushes = [
        (dict.fromkeys(FEATURES.history_counts, 1), moment),
        (dict.fromkeys(FEATURES.history_counts, 2), moment + 1000),
    ]
    for counts, read_at in pushes if arrive_in_order else reversed(pushes):
        caller.push_history(FEATURES, new_user, counts, read_at)
    assert set(history(caller, new_user).values()) == {2}


def test_a_push_that_lacks_a_count_is_a_mistake_of_the_caller(caller: FeastCaller, new_user: int) -> None:
    with pytest.raises(KeyError, match=FEATURES.history_counts[-1]):
        caller.push_history(FEATURES, new_user, dict.fromkeys(FEATURES.history_counts[:-1], 1), time.time_ns())


def test_connections_are_used_again_and_replaced_when_feast_has_closed_them(caller: FeastCaller) -> None:
    caller.request_features(FEATURES, "user", [1])()
    (connection,) = caller._idle.queue
    socket = connection.sock
    caller.request_features(FEATURES, "user", [1])()
    assert caller._idle.queue == [connection] and connection.sock is socket
    socket.shutdown(2)  # as a server that closes looks from here
    assert caller.request_features(FEATURES, "user", [1])().values.shape == (1, len(FEATURES.entity_columns("user")))
    assert connection.sock is not socket


def test_a_missing_server_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEAST_PORT", "1")
    caller = FeastCaller(Settings(), 1)
    for call in (
        lambda: caller.ping(DATA.expected),
        lambda: caller.features(FEATURES, "user", [1]),
        lambda: caller.request_features(FEATURES, "user", [1]),
        lambda: caller.push_history(FEATURES, 1, dict.fromkeys(FEATURES.history_counts, 0), 1),
    ):
        with pytest.raises(ServiceUnavailable, match="feast"):
            call()


# --- responses, without a server -------------------------------------------------------------------------------------

Columns = dict[str, list[int | None]]


def response(columns: Columns, status: str = "PRESENT") -> bytes:
    """As Feast gives it, the columns in any order."""
    return orjson.dumps(
        {
            "metadata": {"feature_names": list(columns)},
            "results": [{"values": values, "statuses": [status] * len(values)} for values in columns.values()],
        }
    )


@pytest.fixture
def columns() -> Iterator[Columns]:
    """Two users, the second with the values of the first plus 100."""
    return {name: [place, place + 100] for place, name in reversed(list(enumerate(FEATURES.entity_columns("user"))))}


def test_columns_are_taken_by_name(columns: Columns) -> None:
    values, known = feast_caller._read_features(response(columns), FEATURES, "user", 2)
    np.testing.assert_array_equal(values, [np.arange(40), np.arange(40) + 100])
    assert known.tolist() == [True, True]


def test_a_view_with_a_missing_value_does_not_count(columns: Columns) -> None:
    columns["age"][1] = None
    values, known = feast_caller._read_features(response(columns), FEATURES, "user", 2)
    assert known.all() and not values[1, :4].any()  # the history is known
    np.testing.assert_array_equal(values[1, 4:], np.arange(4, 40) + 100)
    columns["clk_war"][1] = None
    values, known = feast_caller._read_features(response(columns), FEATURES, "user", 2)
    assert known.tolist() == [True, False] and not values[1].any() and values[0].any()
    assert not feast_caller._read_features(response(columns, "NOT_FOUND"), FEATURES, "user", 2).known.any()


def test_other_features_than_declared_are_refused(columns: Columns) -> None:
    with pytest.raises(ValueError, match="for 3 users"):
        feast_caller._read_features(response(columns), FEATURES, "user", 3)
    del columns["clk_war"]
    with pytest.raises(KeyError, match="clk_war"):
        feast_caller._read_features(response(columns), FEATURES, "user", 2)
