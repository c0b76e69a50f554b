"""Establishes that bad input gets a 4xx that names field and rule, and that no input gets a 500."""

import json
from collections.abc import Iterator
from typing import Any

import flask.testing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_exchange_center.settings import Settings
from online.main.app import create_app
from online.recommender import Callers
from tests.online.test_recommender import DATA, Services


@pytest.fixture(scope="module")
def client() -> Iterator[flask.testing.FlaskClient]:
    services = Services()
    app = create_app(Settings(), Callers(services, services, services, services), lambda: DATA, lambda: None)
    yield app.test_client()
    app.extensions["recommender"].close()


def test_get_and_post_answer_alike(client: flask.testing.FlaskClient) -> None:
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
        "score": pytest.approx(3.0),
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
    answer = client.get("/recommend" + query)
    assert answer.status_code == 400 and answer.json is not None
    assert answer.json["error"]["field"] == field and answer.json["error"]["rule"]


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
    answer = client.post("/recommend", data=body, content_type=content_type)
    assert answer.status_code == status and answer.json is not None
    assert answer.json["error"]["field"] == field and answer.json["error"]["rule"]


def test_other_paths_and_methods_are_refused_in_json(client: flask.testing.FlaskClient) -> None:
    for answer, status in ((client.get("/nothing"), 404), (client.delete("/recommend"), 405)):
        assert answer.status_code == status and answer.json is not None
        assert set(answer.json["error"]) == {"field", "rule", "got"}


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["userid", "size", "x"]), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_no_body_gets_a_500(client: flask.testing.FlaskClient, body: bytes) -> None:
    answer = client.post("/recommend", data=body, content_type="application/json")
    assert answer.status_code in (200, 400, 413) and answer.json is not None
    assert answer.status_code == 200 or set(answer.json["error"]) == {"field", "rule", "got"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(["userid", "size", "page"]), st.text()))
def test_no_query_gets_a_500(client: flask.testing.FlaskClient, query: dict[str, str]) -> None:
    assert client.get("/recommend", query_string=query).status_code in (200, 400)
