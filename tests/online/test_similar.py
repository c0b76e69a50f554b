"""Establishes what /similar lists, that an unknown item is refused, and that no service that is down makes it fail."""

from typing import Any

import flask.testing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from online.breakers import FAILURES
from tests.online.stand_ins import DATA, SIMILAR, Services
from tests.online.test_app import client_on
from tests.online.test_text_ids import ITEMS, KNOWN, client_of, text_data


def similar_to(services: Services, **query: Any) -> dict[str, Any]:
    with client_on(services) as client:
        response = client.get("/similar", query_string=query)
        assert response.status_code == 200 and response.json is not None, response.text
        return dict(response.json)


def ids(content: dict[str, Any]) -> list[int]:
    return [item["itemid"] for item in content["items"]]


def test_the_neighbours_come_best_first() -> None:
    content = similar_to(Services(), itemid=2, size=2)
    assert content == {
        "itemid": 2,
        "dataset": "five items",
        "items": [
            {"itemid": item, "title": f"Item {item}", "genres": ["Drama"], "score": score}
            for item, score in SIMILAR[:2]
        ],
    }


def test_what_a_user_has_seen_is_left_out() -> None:
    assert ids(similar_to(Services(), itemid=2, userid=1)) == [1, 4]  # the user has seen 5 and 3
    assert ids(similar_to(Services(), itemid=2, userid=42)) == [3, 1, 4]
    services = Services(down=("redis",))
    content = similar_to(services, itemid=2, userid=1)
    assert (ids(content), content["degraded"]) == ([3, 1, 4], ["redis"])
    assert "degraded" not in similar_to(services, itemid=2)  # nobody's items are asked for


def test_popular_items_of_the_same_genres_stand_in() -> None:
    down = similar_to(Services(down=("elasticsearch",)), itemid=2, size=3)
    assert (ids(down), down["degraded"], down["fallback"]) == ([5, 4, 3], ["elasticsearch"], "same_genres")
    assert [item["score"] for item in down["items"]] == [dict(DATA.popular)[item] for item in (5, 4, 3)]
    without = similar_to(Services(), itemid=5, userid=1)  # an item that nobody has rated
    assert (ids(without), without["fallback"], "degraded" in without) == ([4, 2, 1], "same_genres", False)


def test_a_dead_index_is_left_alone() -> None:
    services = Services(down=("elasticsearch",))
    with client_on(services) as client:
        for _ in range(FAILURES + 3):
            assert client.get("/similar?itemid=2").status_code == 200
        assert services.calls.count("elasticsearch") == FAILURES


@pytest.fixture(scope="module")
def client() -> Any:
    with client_on(Services()) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("", 400, "itemid"),
        ("itemid=0", 400, "itemid"),
        ("itemid=x", 400, "itemid"),
        ("itemid=2&size=0", 400, "size"),
        ("itemid=2&size=51", 400, "size"),
        ("itemid=2&userid=", 400, "userid"),
        ("itemid=2&userid=null", 400, "userid"),
        ("itemid=2&page=1", 400, "page"),
        ("itemid=2&itemid=3", 400, "itemid"),
        ("itemid=6", 404, "itemid"),
    ],
)
def test_a_bad_query_names_the_field(client: flask.testing.FlaskClient, query: str, status: int, field: str) -> None:
    response = client.get(f"/similar?{query}")
    assert response.status_code == status and response.json is not None
    assert response.json["error"]["field"] == field and response.json["error"]["rule"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(["userid", "itemid", "size", "page"]), st.text()))
def test_no_query_gets_a_500(client: flask.testing.FlaskClient, query: dict[str, str]) -> None:
    assert client.get("/similar", query_string=query).status_code in (200, 400, 404)


def test_text_ids_go_in_and_come_out_as_they_are() -> None:
    data = text_data()
    for client in client_of(data):
        response = client.get("/similar", query_string={"itemid": "a/b c", "userid": KNOWN})
        assert response.json is not None and response.json["itemid"] == "a/b c"
        # The stand-in's neighbours are no items of this catalogue: what is not there is not listed.
        assert response.json["items"] == [] and "fallback" not in response.json
        assert client.get("/similar", query_string={"itemid": "7"}).status_code == 404
    assert "a/b c" in ITEMS
