"""Establishes that bad input gets a 4xx that names field and rule, and that no input gets a 500."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flask.testing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_exchange_center.settings import Settings
from online.callers.types import Expected, Impression, LiveUser, ServiceUnavailable
from online.main.app import create_app
from online.readiness import PING_SECONDS
from tests.online.stand_ins import Services, engine_on


@contextmanager
def client_on(services: Services, **others: Any) -> Iterator[flask.testing.FlaskClient]:
    engine = engine_on(services, **others)
    yield create_app(Settings(), engine).test_client()
    engine.close()


@pytest.fixture(scope="module")
def client() -> Iterator[flask.testing.FlaskClient]:
    with client_on(Services()) as client:
        yield client


def test_get_and_post_respond_alike(client: flask.testing.FlaskClient) -> None:
    by_get = client.get("/recommend?userid=1&size=2")
    by_post = client.post("/recommend", json={"userid": 1, "size": 2})
    assert by_get.status_code == by_post.status_code == 200 and by_get.json == by_post.json
    assert by_get.json is not None
    assert {key: by_get.json[key] for key in ("userid", "dataset", "model_version")} == {
        "userid": 1,
        "dataset": "five items",
        "model_version": "7",
    }
    assert by_get.json["items"][0] == {
        "itemid": 2,
        "title": "Item 2",
        "genres": ["Drama"],
        "score": 8.0,
        "recall_score": pytest.approx(1.0),
        "logit": 4.0,
        "recalled_by": ["vector"],
    }
    assert client.get("/health").json == {"status": "live", "dataset": "five items"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "userid"),
        ("?userid=", "userid"),
        ("?userid=abc", "userid"),
        ("?userid=1.5", "userid"),
        ("?userid=-1", "userid"),
        ("?userid=99999999999999999999", "userid"),
        ("?userid=1&userid=2", "userid"),
        ("?userid=1&size=0", "size"),
        ("?userid=1&size=201", "size"),
        ("?userid=1&size=many", "size"),
        ("?userid=1&sise=3", "sise"),
    ],
)
def test_a_bad_query_names_the_field(client: flask.testing.FlaskClient, query: str, field: str) -> None:
    response = client.get("/recommend" + query)
    assert response.status_code == 400 and response.json is not None
    assert response.json["error"]["field"] == field and response.json["error"]["rule"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "field"),
    [
        (b"{", "application/json", 400, "body"),
        (b"", "application/json", 400, "body"),
        (b"[1]", "application/json", 400, "body"),
        (b'{"userid": "1"}', "application/json", 400, "userid"),
        (b'{"userid": true}', "application/json", 400, "userid"),
        (b'{"userid": null}', "application/json", 400, "userid"),
        (b'{"userid": 1, "size": 1e9}', "application/json", 400, "size"),
        (b"\xff\xfe", "application/json", 400, "body"),
        (b"userid=1", "application/x-www-form-urlencoded", 415, "Content-Type"),
        (b'{"userid": 1}', None, 415, "Content-Type"),
        (b'{"userid": 1' + b" " * 17_000 + b"}", "application/json", 413, "body"),
    ],
)
def test_a_bad_body_names_the_field(
    client: flask.testing.FlaskClient, body: bytes, content_type: str | None, status: int, field: str
) -> None:
    response = client.post("/recommend", data=body, content_type=content_type)
    assert response.status_code == status and response.json is not None
    assert response.json["error"]["field"] == field and response.json["error"]["rule"]


def test_other_paths_and_methods_are_refused_in_json(client: flask.testing.FlaskClient) -> None:
    for response, status in ((client.get("/nothing"), 404), (client.delete("/recommend"), 405)):
        assert response.status_code == status and response.json is not None
        assert set(response.json["error"]) == {"field", "rule", "got"}


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["userid", "size", "x"]), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_no_body_gets_a_500(client: flask.testing.FlaskClient, body: bytes) -> None:
    response = client.post("/recommend", data=body, content_type="application/json")
    assert response.status_code in (200, 400, 413) and response.json is not None
    assert response.status_code == 200 or set(response.json["error"]) == {"field", "rule", "got"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(["userid", "size", "page"]), st.text()))
def test_no_query_gets_a_500(client: flask.testing.FlaskClient, query: dict[str, str]) -> None:
    assert client.get("/recommend", query_string=query).status_code in (200, 400)


def test_an_item_that_is_gone_harms_neither_events_nor_history() -> None:
    """Redis holds what a load before this one brought, and this load has no such item."""
    services = Services()
    services.live[42] = LiveUser((), (999,), (Impression(999, 5.0, 10),), ())
    with client_on(services) as client:
        event = {"userid": 42, "itemid": 1, "rating": 5, "ts": 20}
        posted = client.post("/events", json=event)
        assert posted.status_code == 200 and posted.json == {"accepted": 1, "duplicates": 0}
        history = client.get("/history?userid=42")
        assert history.status_code == 200 and history.json is not None
        assert [(item["itemid"], item["title"], item["genres"]) for item in history.json["items"]] == [
            (1, "Item 1", ["Drama"]),
            (999, "", []),
        ]
    assert services.in_feast[42]["imp_drama"] == 1


def test_ranks_times_and_features_are_explained(client: flask.testing.FlaskClient) -> None:
    response = client.get("/recommend?userid=1&explain=1")
    assert response.json is not None
    assert {item["itemid"]: item["ranks"] for item in response.json["items"]} == {
        1: {"recall": 1, "term": 1, "vector": 1},
        2: {"recall": 2, "term": None, "vector": 2},
        4: {"recall": 3, "term": 2, "vector": None},
    }
    explain = response.json["explain"]
    assert list(explain["milliseconds"]) == ["redis", "elasticsearch", "feast", "triton"]
    assert re.fullmatch(
        r"redis;dur=[\d.]+, elasticsearch;dur=[\d.]+, feast;dur=[\d.]+, triton;dur=[\d.]+",
        response.headers["Server-Timing"],
    )
    assert explain["candidates"] == 3
    assert explain["terms"] == ["Drama"] and explain["seen"] == 2
    assert set(explain["user_features"].values()) == {1} and len(explain["user_features"]) == 40


def test_a_token_is_asked_for_where_one_is_set() -> None:
    engine, event = engine_on(Services()), {"userid": 1, "itemid": 1, "rating": 5, "ts": 3}
    client = create_app(Settings(events_token="a secret"), engine).test_client()
    for headers in (
        {},
        {"Authorization": "Bearer another"},
        {"Authorization": "a secret"},
        {"Authorization": "Bearer é"},
    ):
        for refused in (client.post("/events", json=event, headers=headers), client.get("/metrics", headers=headers)):
            assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
            assert refused.json is not None and refused.json["error"]["field"] == "Authorization"
    token = {"Authorization": "Bearer a secret"}
    assert client.post("/events", json=event, headers=token).json == {"accepted": 1, "duplicates": 0}
    assert client.get("/metrics", headers=token).status_code == 200
    assert client.get("/recommend?userid=1").status_code == client.get("/health").status_code == 200
    engine.close()


def test_whether_the_services_are_ready() -> None:
    services, index = Services(), Services()

    def ping(expected: Expected) -> None:
        raise ServiceUnavailable("elasticsearch", "down")

    with client_on(services, recall_index=index) as client:
        ready = client.get("/ready")
        assert ready.status_code == 200 and ready.json == {
            "ready": True,
            "missing": {},
            "breakers": dict.fromkeys(("redis", "elasticsearch", "feast", "triton"), "closed"),
        }
        index.ping = ping  # type: ignore[method-assign]
        ready = client.get("/ready")
        assert ready.status_code == 503 and ready.json is not None
        assert ready.json["missing"] == {"elasticsearch": "elasticsearch cannot be used: down"}
        index.ping = lambda data: time.sleep(2 * PING_SECONDS)  # type: ignore[method-assign]
        ready = client.get("/ready")
        assert ready.json is not None and ready.json["missing"] == {"elasticsearch": "no response within 1 s"}
