"""Establishes what events do: the window moves as if all rows were counted again, and each store gets its part."""

import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.limits import TOWER_IMPRESSIONS
from data_exchange_center.user_state import LIKED_MINIMUM, WINDOW
from data_exchange_center.vocabularies import GENRES
from online.breakers import RETRY_SECONDS
from online.callers.types import Impression, LiveUser, ServedModel, ServiceUnavailable
from online.engine import Engine
from online.serving_data import ItemMetadata
from online.user_events import Recorded, add_events, history_features, sequence_after
from tests.online.stand_ins import DATA, Make, Services

ITEMS = {item: ItemMetadata("", tuple(GENRES[item % 7 : item % 7 + 1 + item % 3]), item) for item in range(1, 40)}
WORLD = replace(DATA, items=ITEMS)
impressions = st.builds(
    Impression,
    st.integers(1, 39),
    st.sampled_from([0.5, 3.0, 3.5, 5.0]),
    st.integers(0, 12),  # few seconds, so that many tie
)


def slow_window(rows: list[Impression], length: int = TOWER_IMPRESSIONS) -> list[Impression]:
    """The last ones by (second, order of arrival); Python's sort is stable."""
    return sorted(rows, key=lambda row: row.timestamp)[-length:]


@given(st.lists(impressions, max_size=15), st.lists(st.lists(impressions, max_size=6), max_size=5))
def test_the_window_moves_as_if_all_rows_were_counted(
    offline: list[Impression], arriving: list[list[Impression]]
) -> None:
    offline = sorted(offline, key=lambda row: row.timestamp)
    user = LiveUser((), tuple(sorted({row.itemid for row in offline})), tuple(offline[-TOWER_IMPRESSIONS:]), ())
    everything = list(offline)
    for events in arriving:
        known = {(i.itemid, i.timestamp) for i in (*slow_window(everything), *everything[len(offline) :])}
        user = add_events(user, events, WORLD)
        for event in events:
            if (event.itemid, event.timestamp) not in known:
                known.add((event.itemid, event.timestamp))
                everything.append(event)
    assert list(user.recent) == slow_window(everything)
    assert set(user.seen) == {row.itemid for row in everything}
    items, liked_items = sequence_after(user.recent, WORLD, 20)
    padded = [(0, 0)] * 20 + [(row.itemid, int(row.rating > 3)) for row in slow_window(everything)]
    assert list(zip(items[0].tolist(), liked_items[0].tolist(), strict=True)) == padded[-20:]
    if not user.events:
        return
    features = history_features(user.recent, WORLD)
    liked = []
    for genre in GENRES:
        shown = [row for row in slow_window(everything, WINDOW) if genre in ITEMS[row.itemid].genres]
        positive = [row for row in shown if row.rating > 3]
        slug = genre.lower().replace("'", "").replace("-", "_")
        assert (features[f"imp_{slug}"], features[f"clk_{slug}"]) == (len(shown), len(positive))
        liked += [genre] if len(positive) >= LIKED_MINIMUM else []
    assert list(user.terms) == liked


@given(st.lists(impressions, min_size=1, max_size=6))
def test_an_event_counts_once(events: list[Impression]) -> None:
    once = add_events(LiveUser((), (), (), ()), events, WORLD)
    assert add_events(once, events, WORLD) is once


def test_an_item_that_is_gone_counts_as_one_without_genres() -> None:
    """The recall store may hold it from before a load."""
    gone = Impression(999, 5.0, 10)
    counts = history_features([gone, Impression(1, 5.0, 11)], DATA)
    assert counts["imp_drama"] == counts["clk_drama"] == 1 and sum(counts.values()) == 2
    assert set(history_features([gone], DATA).values()) == {0}
    after = add_events(LiveUser((), (999,), (gone,), ()), [Impression(1, 5.0, 11)], DATA)
    assert after.seen == (1, 999) and after.recent == (gone, Impression(1, 5.0, 11))


# --- with stand-ins for the stores -----------------------------------------------------------------------------------


def record(engine: Engine, userid: int, events: list[Impression]) -> Recorded:
    return engine.user_events.record({userid: events}, engine.snapshot.data)


def test_events_count_once_and_reach_both_stores(make: Make) -> None:
    services = Services()
    engine = make(services)
    events = [Impression(item, 5.0, 10) for item in (1, 2, 3)]
    assert record(engine, 42, events) == Recorded(3)
    assert record(engine, 42, events) == Recorded(0)
    assert services.live[42].terms == ("Drama",) and services.live[42].seen == (1, 2, 3)
    assert services.in_feast[42]["clk_drama"] == services.in_feast[42]["imp_drama"] == 3 and not services.waiting
    assert engine.recommend(42, 5).fallback is None  # it has liked genres now


def test_a_push_is_one_way(make: Make) -> None:
    """It reads nothing from the feature store, and writes the counts of the history window alone."""
    services = Services()
    engine = make(services)
    services.calls.clear()
    record(engine, 42, [Impression(1, 5.0, 10)])
    assert services.calls.count("feast") == 1 and len(services.in_feast[42]) == 36


def test_an_event_moves_the_vector_and_a_new_user_is_cold_no_longer(make: Make) -> None:
    services = Services()
    engine = make(services)
    assert engine.recommend(42, 5).fallback == "cold_start"
    assert record(engine, 42, [Impression(1, 1.0, 10)]) == Recorded(1)  # not liked, and so no liked genre
    assert services.users[42].vector == (1.0,) and not services.users[42].terms
    assert engine.recommend(42, 5).fallback is None
    record(engine, 42, [Impression(2, 5.0, 11)])
    assert services.users[42].vector == (2.0,) and not services.waiting


def test_a_vector_that_the_tower_could_not_make_follows(make: Make) -> None:
    services = Services()
    engine = make(services)
    services.down = ("triton",)
    assert record(engine, 42, [Impression(1, 5.0, 10)]) == Recorded(1, ("triton",))
    assert services.users[42].vector == () and services.waiting == {42} and services.in_feast[42]["imp_drama"] == 1
    services.down = ()
    time.sleep(RETRY_SECONDS)
    engine.freshness.refresh()
    assert services.users[42].vector == (1.0,) and not services.waiting


def test_a_tower_of_other_items_makes_no_vector(make: Make) -> None:
    services = Services()
    services.tower = ServedModel("4", (), "another hash", "", "l")
    engine = make(services)
    assert record(engine, 42, [Impression(1, 5.0, 10)]) == Recorded(1, ("triton",))
    assert services.users[42].vector == () and services.waiting == {42}


def test_a_vector_is_not_replaced_by_an_older_one(make: Make) -> None:
    """A second event comes in while the tower works on the first: its own vector stays."""
    services = Services()
    engine = make(services)
    user_vectors, second = services.user_vectors, [Impression(2, 5.0, 11)]

    def interrupted(*sequence: Any) -> Any:
        services.user_vectors = user_vectors  # type: ignore[method-assign]
        record(engine, 42, second)
        return user_vectors(*sequence)

    services.user_vectors = interrupted  # type: ignore[method-assign]
    record(engine, 42, [Impression(1, 5.0, 10)])
    assert services.users[42].vector == (2.0,)


def test_events_that_feast_missed_follow(make: Make) -> None:
    services = Services(("feast",))
    engine = make(services)
    assert record(engine, 42, [Impression(1, 2.0, 10)]) == Recorded(1, ("feast",))
    assert services.waiting == {42} and 42 not in services.in_feast
    services.down = ()
    time.sleep(RETRY_SECONDS)
    engine.freshness.refresh()
    assert services.in_feast[42]["imp_drama"] == 1 and services.in_feast[42]["clk_drama"] == 0 and not services.waiting


def test_events_of_several_users_reach_both_stores(make: Make) -> None:
    services = Services()
    engine = make(services)
    events = {user: [Impression(1, 5.0, user)] for user in (42, 43)}
    assert engine.user_events.record(events, DATA) == Recorded(2)
    assert engine.user_events.record({**events, 44: events[42]}, DATA) == Recorded(1)
    assert set(services.in_feast) == {42, 43, 44} and not services.waiting


def test_a_feature_store_that_hangs_delays_many_users_no_more_than_one(make: Make) -> None:
    services = Services()
    engine = make(services)
    services.down = ("feast",)
    services.calls.clear()
    events = {user: [Impression(1, 5.0, user)] for user in range(42, 52)}
    assert engine.user_events.record(events, DATA) == Recorded(10, ("feast",))
    assert services.calls.count("feast") == 1 and services.waiting == set(range(42, 52))


def test_without_redis_no_event_is_half_recorded(make: Make) -> None:
    services = Services(("redis",))
    engine = make(services)
    with pytest.raises(ServiceUnavailable, match="redis"):
        record(engine, 42, [Impression(1, 2.0, 10)])
    assert not services.live and not services.in_feast


def test_items_that_are_gone_do_not_keep_the_server_from_starting(make: Make) -> None:
    services = Services()
    services.live[42] = LiveUser((), (999,), (Impression(999, 5.0, 10), Impression(1, 5.0, 11)), ())
    services.waiting.add(42)
    make(services)
    assert services.in_feast[42]["imp_drama"] == 1 and not services.waiting
