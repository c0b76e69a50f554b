"""Establishes lists for people without an account, why an item is in a list, and what diversity does to it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flask.testing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_exchange_center.settings import Settings
from online.callers.types import Impression
from online.diversity import DEFAULT_DIVERSITY, directions, diversified
from online.engine import Engine
from online.main.app import create_app
from online.reasons import reasons
from tests.online.stand_ins import DATA, Services, backends_of
from tests.online.test_text_ids import ITEMS, TextServices, text_data

VECTORS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 1, 0], [0, 3, 1], [-1, 0, 0]], np.float32)  # by index
WITH_VECTORS = dataclasses.replace(DATA, vectors=VECTORS)
DIVERSE = {"diversity": DEFAULT_DIVERSITY}


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def client(services: Services) -> Iterator[flask.testing.FlaskClient]:
    engine = Engine(backends_of(services), lambda: WITH_VECTORS, lambda: None, 60.0, 2)
    services.calls.clear()
    yield create_app(Settings(), engine).test_client()
    engine.close()


def content_of(response: Any, status: int = 200) -> Any:
    assert response.status_code == status and response.json is not None, response.text
    return response.json


SESSION = [{"itemid": 3, "rating": 2, "ts": 9}, {"itemid": 5}, {"itemid": 4, "rating": 4}, {"itemid": 2}]


def test_a_session_is_ranked_as_a_user_with_these_events_and_nothing_is_kept(
    client: flask.testing.FlaskClient, services: Services
) -> None:
    found = content_of(client.post("/recommend", json={"session": SESSION, "explain": True}))
    assert [item["itemid"] for item in found["items"]] == [2, 1, 4]  # as the stand-in recalls and ranks them
    assert (
        "userid" not in found
        and found["applied"] == {"session": 4, **DIVERSE}
        and not {"fallback", "degraded"} & set(found)
    )
    assert services.calls == ["triton", "elasticsearch", "triton"]  # neither Redis nor Feast is asked
    assert list(found["explain"]["milliseconds"]) == ["triton", "elasticsearch"]
    assert found["explain"]["terms"] == ["Drama"] and found["explain"]["seen"] == 4
    of_session = found["explain"]["user_features"]
    assert services.saw_recent[-4:] == [(3, 0), (5, 1), (4, 1), (2, 1)]  # in order; without a rating liked
    # The same impressions as events of a new user: Feast then has the counts that the session's list was made with.
    events = [{"userid": 77, "rating": 5, "ts": 9, **item} for item in SESSION]
    assert content_of(client.post("/events", json=events))["accepted"] == 4
    assert services.in_feast[77] == {name: of_session[name] for name in services.in_feast[77]}
    assert of_session["user_index"] == 0 and 78 not in services.users and not services.live.keys() - {77}


def test_a_session_without_the_tower_goes_by_its_genres(client: flask.testing.FlaskClient, services: Services) -> None:
    services.down = ("triton",)
    by_genres = content_of(client.post("/recommend", json={"session": SESSION}))
    assert by_genres["degraded"] == ["triton"] and [item["itemid"] for item in by_genres["items"]] == [1, 4, 2]
    popular = content_of(client.post("/recommend", json={"session": [{"itemid": 5}]}))
    assert [item["itemid"] for item in popular["items"]] == [4, 3, 2, 1] and popular["degraded"] == ["triton"]


@pytest.mark.parametrize(
    ("body", "status", "field", "rule"),
    [
        ({"userid": 1, "session": SESSION}, 400, "session", "may not stand beside userid"),
        ({"session": []}, 400, "session", "at least 1 item"),
        ({"session": [{"itemid": 1}] * 101}, 400, "session", "at most 100 items"),
        ({"session": [{"itemid": 9}]}, 404, "session", "items of the catalogue"),
        ({"session": [{"itemid": "1"}]}, 400, "session.0.itemid", "valid integer"),
        ({"session": [{"itemid": 1, "rating": 6}]}, 400, "session.0.rating", "less than or equal to 5"),
        ({"session": [{"itemid": 1, "rating": None}]}, 400, "session.0.rating", "valid number"),
        ({"session": [{"itemid": 1, "ts": 99999999999}]}, 400, "session.0.ts", "a day from now at most"),
        ({"session": [{"itemid": 1, "seen": 1}]}, 400, "session.0.seen", "not permitted"),
        ({"session": [{"itemid": 1}], "size": 201}, 400, "size", "less than or equal to 200"),
        ({"session": "session"}, 400, "session", "valid array"),
        ({"size": 1}, 400, "userid", "required"),
    ],
)
def test_a_wrong_session_is_refused(
    client: flask.testing.FlaskClient, body: dict[str, Any], status: int, field: str, rule: str
) -> None:
    error = content_of(client.post("/recommend", json=body), status)["error"]
    assert error["field"] == field and rule in error["rule"]


def test_text_ids_and_the_word_session_as_a_user() -> None:
    data = text_data()
    engine = Engine(backends_of(TextServices(data)), lambda: data, lambda: None, 60.0, 2)
    client = create_app(Settings(), engine).test_client()
    assert content_of(client.post("/recommend", json={"userid": "session"}))["userid"] == "session"
    found = content_of(client.post("/recommend", json={"session": [{"itemid": ITEMS[3]}], "because": True}))
    assert found["applied"] == {"session": 1, **DIVERSE}
    asked = {"exclude": [ITEMS[0]], "genres": ["Drama"]}
    narrowed = content_of(client.get("/recommend", query_string={"userid": "x", **asked}))
    assert [item["itemid"] for item in narrowed["items"]] == list(ITEMS[1:])
    refused = content_of(client.post("/recommend", json={"userid": "x", "exclude": [7]}), 400)
    assert refused["error"]["field"] == "exclude.0" and "must be text" in refused["error"]["rule"]
    engine.close()


def test_reasons_have_text_ids_too() -> None:
    data = text_data()
    items = {key: dataclasses.replace(item, index=place) for place, (key, item) in enumerate(data.items.items(), 1)}
    data = dataclasses.replace(data, items=items, vectors=VECTORS)
    engine = Engine(backends_of(TextServices(data)), lambda: data, lambda: None, 60.0, 2)
    client = create_app(Settings(), engine).test_client()
    found = content_of(client.post("/recommend", json={"session": [{"itemid": ITEMS[2]}], "because": True}))
    assert {reason["itemid"] for item in found["items"] for reason in item["because"]} == {ITEMS[2]}
    engine.close()


# --- because ---------------------------------------------------------------------------------------------------------


def test_the_liked_items_that_are_most_alike_come_first() -> None:
    recent = [Impression(1, 5.0, 1), Impression(2, 1.0, 2), Impression(4, 4.0, 3), Impression(9, 5.0, 4)]
    found = reasons([3, 5, 1], recent, WITH_VECTORS)  # 2 was not liked, 9 is in no catalogue
    assert [[itemid for itemid, _ in of_item] for of_item in found] == [[1, 4], [], [1]]
    assert found[0] == [(1, pytest.approx(2 / 5**0.5)), (4, pytest.approx(1 / 5**0.5))]
    assert reasons([3], [], WITH_VECTORS) == [[]] and reasons([], recent, WITH_VECTORS) == []


def test_reasons_are_given_on_request(client: flask.testing.FlaskClient) -> None:
    asked = content_of(client.get("/recommend?userid=1&because=true"))
    assert {item["itemid"]: item["because"] for item in asked["items"]} == {1: [], 2: [], 4: []}  # 5 points elsewhere
    session = content_of(client.post("/recommend", json={"session": [{"itemid": 3}], "because": True}))
    by_item = {item["itemid"]: item["because"] for item in session["items"]}
    assert by_item[1] == [{"itemid": 3, "title": "Item 3", "likeness": pytest.approx(2 / 5**0.5, abs=1e-6)}]
    assert "because" not in content_of(client.get("/recommend?userid=1"))["items"][0]
    cold = content_of(client.get("/recommend?userid=99&because=true"))
    assert all(item["because"] == [] for item in cold["items"])


# --- diversity -------------------------------------------------------------------------------------------------------


def shortfalls(scores: np.ndarray, vectors: np.ndarray, diversity: float, found: list[int]) -> list[float]:
    """How far each item of a list, but the first, is from the best of those left, by the definition, item by item."""
    span = scores[0] - scores[-1]
    relevance = (scores - scores[-1]) / span if span else scores * 0
    short = []
    for place in range(1, len(found)):
        value = {
            p: (1 - diversity) * relevance[p] - diversity * max(vectors[p] @ vectors[c] for c in found[:place])
            for p in range(len(scores))
            if p not in found[:place]
        }
        short.append(max(value.values()) - value[found[place]])
    return short


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0, 1), st.integers(1, 40), st.integers(0, 99))
def test_each_item_is_the_one_with_the_largest_marginal_relevance(
    count: int, diversity: float, size: int, seed: int
) -> None:
    drawn = np.random.default_rng(seed)
    scores, vectors = -np.sort(-drawn.normal(size=count)), directions(drawn.normal(size=(count, 5)).astype(np.float32))
    found = diversified(scores, vectors, diversity, size).tolist()
    assert len(set(found)) == len(found) == min(size, count)
    assert found[0] == 0 and max(shortfalls(scores, vectors, diversity, found), default=0) < 1e-5
    assert diversified(scores, vectors, 0.0, size).tolist() == list(range(min(size, count)))


def test_a_diverse_list_is_said_to_be_one(client: flask.testing.FlaskClient, services: Services) -> None:
    services.logits = (0.0, 0.5, 4.0)  # 4 is the best; 2, like it, has the next score; 1 is unlike both
    plain = content_of(client.get("/recommend?userid=1&diversity=0"))
    assert [item["itemid"] for item in plain["items"]] == [4, 2, 1] and "applied" not in plain
    diverse = content_of(client.get("/recommend?userid=1&diversity=0.9&size=2"))
    assert [item["itemid"] for item in diverse["items"]] == [4, 1] and diverse["applied"] == {"diversity": 0.9}
    cold = content_of(client.get("/recommend?userid=99&diversity=0.9"))
    assert [item["itemid"] for item in cold["items"]] == [5, 4, 3, 2, 1] and "applied" not in cold  # popular items
    for wrong in ("-0.1", "1.1", "nan", "x", ""):
        refused = content_of(client.get(f"/recommend?userid=1&diversity={wrong}"), 400)
        assert refused["error"]["field"] == "diversity"


def test_an_item_that_the_model_does_not_know_is_like_none() -> None:
    assert directions(WITH_VECTORS.vectors_of([9, 1])).tolist() == [[0, 0], [1, 0]]
