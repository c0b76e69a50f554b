"""Establishes that the new users of the evaluation are new: their few events are all that the recommender is told."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import new_users, systems
from benchmarks.quality.item_catalogue import ItemCatalogue
from benchmarks.quality.list_metrics import accuracy
from benchmarks.quality.new_users import EVENTS, METRICS, FewEventsStore, few_events, lists_after, one_event
from data_exchange_center.assembler import RankingInputs, unknown_user
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from online.callers.types import Impression, RankingScores, ServedModel, UserRecall
from online.user_events import window_after
from testkit.dataset import FEATURES
from tests.online.stand_ins import DATA, Services, backends_of

Recent = dict[int, tuple[Impression, ...]]


class Watching(Services):
    """Remembers what the ranking model was given; knows the users 1 to 3, whose own data must play no part."""

    def __init__(self) -> None:
        super().__init__()
        self.users = {user: UserRecall(("Western",), (9.0,), (4, 5), ()) for user in (1, 2, 3)}
        self.inputs: list[RankingInputs] = []

    def score(self, inputs: RankingInputs, version: str = "") -> tuple[RankingScores, ServedModel]:
        self.inputs.append(inputs)
        return super().score(inputs, version)


def events(count: int, rating: float = 5.0) -> tuple[Impression, ...]:
    """So many, of the catalogue's five items in turn."""
    return tuple(Impression(1 + at % 5, rating, at) for at in range(count))


def store_of(recent: Recent) -> FewEventsStore:
    return FewEventsStore.of(recent, backends_of(Watching()), DATA)  # type: ignore[arg-type]


# --- the store -------------------------------------------------------------------------------------------------------


def test_a_new_user_has_what_the_server_would_have_after_their_events() -> None:
    recent = {1: events(2), 2: (), 3: events(TOWER_IMPRESSIONS + 30)}
    store = store_of(recent)
    assert set(store.users) == {1, 3} and store.user(2) is None and store.user(99) is None
    one, many = store.user(1), store.user(3)
    assert one is not None and many is not None
    assert one == UserRecall((), (2.0,), (4, 5), recent[1])  # liked twice: no term yet; the vector counts the events
    assert many == UserRecall(("Drama",), (float(TOWER_IMPRESSIONS),), (4, 5), recent[3][-RANKER_IMPRESSIONS:])
    assert store_of({1: events(30, rating=2.0)}).users[1].terms == ()


def test_a_new_user_has_no_features_but_the_counts_of_their_events() -> None:
    recent = {1: events(2), 3: events(40, rating=2.0)}
    values, known = store_of(recent).request_features(FEATURES, "user", [3, 1])()
    assert known.tolist() == [True, True]
    for row, user in zip(values, (3, 1), strict=True):
        of_user = dict(zip(FEATURES.user_columns, row.tolist(), strict=True))
        counts = [of_user.pop(name) for name in FEATURES.history_counts]
        assert counts == window_after(recent[user], DATA)[0].tolist() and sum(counts) > 0
        assert not any(of_user.values())  # unknown id, no demographics
    assert not unknown_user(FEATURES).any()
    items, _ = store_of(recent).request_features(FEATURES, "item", [1, 2])()
    assert (items == Services().features(FEATURES, "item", [1, 2])[0]).all()


def test_lists_are_the_recommenders_on_those_events_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "ServingData", SimpleNamespace(load=lambda: DATA))
    services, recent = Watching(), {1: events(2), 2: (), 3: events(30)}
    lists = lists_after(recent, backends_of(services), DATA, "some")  # type: ignore[arg-type]
    assert {user: items[0] for user, items in lists.items()} == {1: 2, 3: 2}  # of the largest logit
    for inputs, user in zip(services.inputs, (1, 3), strict=True):
        assert (inputs.dense[0] == window_after(recent[user], DATA)[0]).all()
        assert (
            not inputs.sparse[0, :, 0].any() and not inputs.sparse[0, :, FEATURES.sparse_columns.index("gender")].any()
        )
        told = [impression.itemid for impression in recent[user][-RANKER_IMPRESSIONS:]]
        assert inputs.recent[0].tolist() == [0] * (RANKER_IMPRESSIONS - len(told)) + told
        assert inputs.liked[0].tolist() == [int(item > 0) for item in inputs.recent[0]]


# --- what is measured ------------------------------------------------------------------------------------------------


class Lists:
    """In place of `lists_after`: item 1 first of users with 10 events or more, item 50 of the others; all are noted."""

    def __init__(self) -> None:
        self.asked: list[dict[int, Sequence[Impression]]] = []

    def __call__(
        self, recent: Mapping[int, Sequence[Impression]], backends: object, data: object, name: str
    ) -> dict[int, list[int]]:
        self.asked.append(dict(recent))
        return {user: [1 if len(some) >= 10 else 50, *range(2, 50)] for user, some in recent.items() if some}


class Known:
    """A recall store with users 1 to 40, of whom each has seen the two most popular items, and none is alike."""

    def __init__(self, events_of: Mapping[int, int]) -> None:
        self._events_of = events_of
        self.users = {user: UserRecall((), (), (60, 61), ()) for user in events_of}

    def recent(self, users: Sequence[int]) -> list[tuple[Impression, ...]]:
        return [events(self._events_of[user]) for user in users]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Lists:
    lists = Lists()
    monkeypatch.setattr(new_users, "lists_after", lists)
    monkeypatch.setattr(new_users, "ServingData", SimpleNamespace(load=lambda: DATA))
    return lists


ALL = dict.fromkeys(range(1, 41), 80)
ITEMS = ItemCatalogue(np.arange(1, 62), np.ones((61, 1)), np.ones(61, np.int64), np.arange(61), users=40)


def measured(events_of: dict[int, int], relevant: dict[int, list[int]]) -> dict[str, Any]:
    return few_events(relevant, SimpleNamespace(recall_store=Known(events_of)), ITEMS, seed=1)  # type: ignore[arg-type]


def test_metrics_are_those_of_the_last_events_and_gains_are_over_popularity(asked: Lists) -> None:
    relevant = {user: [1, 59] for user in (*ALL, 77)}  # 59 is the most popular one that nobody has seen
    found = measured({**ALL, 78: 80}, relevant)  # of user 77 nothing is known, and 78 has no positive
    assert found["users"] == 40 and list(found["by_events"]) == [str(count) for count in EVENTS]
    popular = accuracy({1: [*range(59, 0, -1)]}, relevant, [1])
    shown = accuracy({1: [1, *range(2, 50)]}, relevant, [1])
    for count, of_events in zip(EVENTS, found["by_events"].values(), strict=True):
        for name in METRICS:
            expected = popular[name][0] if count == 0 else shown[name][0] if count >= 10 else 0.0
            assert of_events[name]["value"] == pytest.approx(expected)
            gain = of_events["gain over popularity"][name]
            assert gain["value"] == pytest.approx(expected - popular[name][0])
    for count, recent in zip(EVENTS[1:], asked.asked, strict=False):
        assert list(recent) == list(ALL)
        assert all(tuple(some) == events(80)[-count:] for some in recent.values())


def test_as_many_users_as_said_are_drawn_by_the_seed(asked: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_users, "MOST_USERS", 7)
    relevant = {user: [1] for user in ALL}
    drawn = []
    for _ in range(2):
        assert measured(ALL, relevant)["users"] == 7
        drawn.append(set(asked.asked[-1]))
    assert drawn[0] == drawn[1] != set(range(1, 8)) and len(drawn[0]) == 7


def test_one_event_is_the_last_one(asked: Lists) -> None:
    """User 1 gets their tenth event, which changes the list; user 2 one more; user 3 has a single event and is out."""
    recent, relevant = {1: events(10), 2: events(30), 3: events(1), 4: ()}, {user: [1] for user in (1, 2, 3, 4)}
    backends: Any = None
    found = one_event(recent, relevant, backends, DATA, seed=1)
    before, after = asked.asked
    assert before == {1: events(9), 2: events(29)} and after == {1: events(10), 2: events(30)}
    assert found["users"] == 2 and found["lists_unchanged"] == 0.5
    assert found["shared_items@50"] == pytest.approx((48 / 49 + 1) / 2)
    for name in METRICS:
        assert found["gain"][name]["value"] == pytest.approx(0.5)  # from nothing to all, and no change
    assert one_event({3: events(1)}, relevant, backends, DATA, seed=1) == {}
