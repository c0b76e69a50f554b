"""Establishes that ids may be text and ratings of any scale: they go in and come out as they are, or are refused."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import flask.testing
import numpy as np
import pytest

from data_exchange_center.dataset import RatingScale
from data_exchange_center.external_ids import LONGEST_ID, internal_id
from data_exchange_center.settings import Settings
from online.callers.types import EVERYTHING, Candidates, Impression, ItemFilter, LiveUser, UserRecall
from online.engine import Engine
from online.main import page
from online.main.app import create_app
from online.serving_data import ItemMetadata, ServingData
from tests.online.stand_ins import CANDIDATES, DATA, Services, backends_of

KNOWN = "7f9c24e5-2c1b-4b0a-9d4e-0e8f6a1c3b5d"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
ITEMS = ("007", "a/b c", "Ünïcødé ☃", "c56a4180-65aa-42ec-a945-5fd21dec0538", "5")
ODD = ["007", "7", "a/b c", "a+b&c=d", "Ünïcødé ☃", " ", "%41", "<b>", "\x00", "null", "1e3", "x" * LONGEST_ID]
TEXT = frozenset({"userid", "itemid"})


def text_data(text_ids: frozenset[str] = TEXT, scale: RatingScale = DATA.scale) -> ServingData:
    """The five items under ids of text."""
    keys = [internal_id(item) for item in ITEMS] if "itemid" in text_ids else list(range(1, 6))
    names = ITEMS if "itemid" in text_ids else (None,) * 5
    are_text = "userid" in text_ids
    return dataclasses.replace(
        DATA,
        scale=scale,
        text_ids=text_ids,
        users=(internal_id(KNOWN) if are_text else 1,),
        some_users=(KNOWN if are_text else 1,),
        items={key: ItemMetadata(f"Item {key}", ("Drama",), key, name) for key, name in zip(keys, names, strict=True)},
        popular=tuple((key, 1 / place) for place, key in enumerate(keys, start=1)),
    )


class TextServices(Services):
    """The stand-ins of a data set whose recall finds the first, second and fourth of `data`'s items."""

    def __init__(self, data: ServingData, found: tuple[int, ...] | None = None) -> None:
        super().__init__()
        keys = list(data.items)
        self.items, self.recalled = data.items, found or (keys[0], keys[1], keys[3])
        self.users = {data.users[0]: UserRecall(("Drama",), (1.0,), (keys[4],), (Impression(keys[4], 5.0, 1),))}

    def recall(
        self, user: UserRecall, possible: int, load: str, within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        return self._passing(dataclasses.replace(CANDIDATES, itemids=np.array(self.recalled)), within)


def client_of(data: ServingData, services: Services | None = None) -> Iterator[flask.testing.FlaskClient]:
    engine = Engine(backends_of(services or TextServices(data)), lambda: data, lambda: None, 60.0, 2)
    yield create_app(Settings(), engine).test_client()
    engine.close()


@pytest.fixture
def client() -> Iterator[flask.testing.FlaskClient]:
    yield from client_of(text_data())


def json_of(response: Any, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json


def test_ids_come_out_as_they_went_in(client: flask.testing.FlaskClient) -> None:
    by_get = json_of(client.get(f"/recommend?userid={KNOWN}&size=3&explain=1"))
    assert by_get["userid"] == KNOWN and "fallback" not in by_get and "degraded" not in by_get
    assert [item["itemid"] for item in by_get["items"]] == [ITEMS[1], ITEMS[0], ITEMS[3]]
    assert by_get["items"][0]["ranks"] == {"recall": 2, "term": None, "vector": 2}
    by_post = json_of(client.post("/recommend", json={"userid": KNOWN, "size": 3}))
    assert (by_post["userid"], len(by_post["items"])) == (KNOWN, 3)
    assert json_of(client.get("/users")) == {"users": [KNOWN]}


@pytest.mark.parametrize("userid", [UNKNOWN, *ODD])
def test_any_text_may_be_a_new_user(client: flask.testing.FlaskClient, userid: str) -> None:
    for response in (
        client.get(f"/recommend?userid={quote(userid, safe='')}"),
        client.get("/recommend", query_string={"userid": userid}),
        client.post("/recommend", json={"userid": userid}),
    ):
        content = json_of(response)
        assert content["userid"] == userid and content["fallback"] == "cold_start"
        assert [item["itemid"] for item in content["items"]] == list(ITEMS)
    assert json_of(client.get("/history", query_string={"userid": userid})) == {"userid": userid, "items": []}


@pytest.mark.parametrize("itemid", ITEMS)
def test_an_event_is_of_the_user_and_of_the_item_that_it_names(client: flask.testing.FlaskClient, itemid: str) -> None:
    event = {"userid": UNKNOWN, "itemid": itemid, "rating": 4.5, "ts": 20}
    assert json_of(client.post("/events", json=event)) == {"accepted": 1, "duplicates": 0}
    assert json_of(client.post("/events", json=[event, event])) == {"accepted": 0, "duplicates": 2}
    history = json_of(client.get(f"/history?userid={UNKNOWN}"))
    assert history["userid"] == UNKNOWN
    assert [(item["itemid"], item["rating"], item["ts"]) for item in history["items"]] == [(itemid, 4.5, 20)]
    assert json_of(client.get("/history?userid=7"))["items"] == []


GOOD = {"userid": KNOWN, "itemid": "007", "rating": 4, "ts": 3}


@pytest.mark.parametrize(
    ("change", "status", "field", "rule"),
    [
        ({"userid": 7}, 400, "userid", "must be text"),
        ({"userid": None}, 400, "userid", "must be text"),
        ({"userid": ""}, 400, "userid", "at least 1 character"),
        ({"userid": "x" * (LONGEST_ID + 1)}, 400, "userid", f"at most {LONGEST_ID} characters"),
        ({"itemid": 7}, 400, "itemid", "must be text"),
        ({"itemid": ["007"]}, 400, "itemid", "must be text"),
        ({"itemid": ""}, 400, "itemid", "at least 1 character"),
        ({"itemid": "x" * (LONGEST_ID + 1)}, 400, "itemid", f"at most {LONGEST_ID} characters"),
        ({"itemid": "7"}, 404, "itemid", "must be an item of the catalogue"),
        ({"itemid": str(internal_id("007"))}, 404, "itemid", "must be an item of the catalogue"),
    ],
)
def test_what_is_no_id_of_the_data_set_is_refused(
    client: flask.testing.FlaskClient, change: dict[str, Any], status: int, field: str, rule: str
) -> None:
    error = json_of(client.post("/events", json={**GOOD, **change}), status)["error"]
    assert error["field"] == field and rule in error["rule"] and error["got"] == repr(change[field])[:200]
    if field == "userid":
        assert json_of(client.post("/recommend", json=change), status)["error"] == error


@pytest.mark.parametrize("path", ["/recommend", "/history"])
def test_a_query_without_a_fitting_id_is_refused(client: flask.testing.FlaskClient, path: str) -> None:
    for query in ("", "?userid=", f"?userid={'x' * (LONGEST_ID + 1)}", "?userid=a&userid=b"):
        assert json_of(client.get(path + query), 400)["error"]["field"] == "userid"


def test_broken_text_gets_no_500(client: flask.testing.FlaskClient) -> None:
    for body in (b'{"userid": "\\ud800"}', b'{"userid": "\xff"}'):
        assert client.post("/recommend", data=body, content_type="application/json").status_code == 400
    for query in ("%ED%A0%80", "%FF%FE", "%"):
        assert client.get(f"/recommend?userid={query}").status_code == 200


@pytest.mark.parametrize(
    ("lowest", "highest", "inside", "outside"),
    [(1.0, 10.0, (1, 7.5, 10), (0.5, 11)), (0.0, 1.0, (0, 1), (-0.5, 1.5)), (-10.0, 10.0, (-10, 0), (-11, 10.5))],
)
def test_a_rating_is_of_the_own_scale(
    lowest: float, highest: float, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    data = text_data(scale=RatingScale(lowest=lowest, highest=highest, positive_above=0.5))
    for client in client_of(data):
        for n, rating in enumerate(inside):
            event = {**GOOD, "rating": rating, "ts": n}
            assert json_of(client.post("/events", json=event)) == {"accepted": 1, "duplicates": 0}
        for rating in outside:
            error = json_of(client.post("/events", json={**GOOD, "rating": rating}), 400)["error"]
            assert error["field"] == "rating" and "than or equal to" in error["rule"]
        schema = json_of(client.get("/openapi.json"))["components"]["schemas"]["Event"]["properties"]["rating"]
        assert (schema["minimum"], schema["maximum"]) == (lowest, highest)


@pytest.mark.parametrize("text_ids", [TEXT, frozenset({"userid"}), frozenset({"itemid"}), frozenset[str]()])
def test_the_document_says_what_an_id_is(text_ids: frozenset[str]) -> None:
    kinds = {name: "string" if name in text_ids else "integer" for name in ("userid", "itemid")}
    data = text_data(text_ids)
    for client in client_of(data):
        document = json_of(client.get("/openapi.json"))
        schemas = document["components"]["schemas"]
        item = schemas["TextItem" if "itemid" in text_ids else "Item"]
        for schema in (schemas["RecommendRequest"], schemas["Event"], schemas["RecommendResponse"], item):
            properties = schema["properties"]
            assert {name: properties[name]["type"] for name in kinds if name in properties}.items() <= kinds.items()
        assert schemas["Rated"]["properties"]["itemid"]["type"] == kinds["itemid"]
        assert schemas["UsersResponse"]["properties"]["users"]["items"] == {"type": kinds["userid"]}
        for path in ("/recommend", "/history"):
            assert document["paths"][path]["get"]["parameters"][0]["schema"]["type"] == kinds["userid"]
        userid, itemid = data.some_users[0], ITEMS[0] if "itemid" in text_ids else 1
        content = json_of(client.post("/recommend", json={"userid": userid}))
        assert content["userid"] == userid and itemid in [item["itemid"] for item in content["items"]]
        event = {"userid": userid, "itemid": itemid, "rating": 5, "ts": 30}
        assert json_of(client.post("/events", json=event)) == {"accepted": 1, "duplicates": 0}
        assert json_of(client.get(f"/history?userid={userid}"))["items"][0]["itemid"] == itemid


def test_an_item_whose_text_nobody_knows_any_more_is_left_out() -> None:
    """The stores hold what a load before this one brought, as an integer."""
    data = text_data()
    keys, gone = list(data.items), internal_id("gone")
    services = TextServices(data, (keys[0], gone, keys[3]))
    services.live[data.users[0]] = LiveUser((), (gone,), (Impression(keys[2], 4.0, 9), Impression(gone, 5.0, 10)), ())
    for client in client_of(data, services):
        history = json_of(client.get(f"/history?userid={KNOWN}"))
        assert [item["itemid"] for item in history["items"]] == [ITEMS[2]]
        content = json_of(client.get(f"/recommend?userid={KNOWN}"))
        assert {item["itemid"] for item in content["items"]} == {ITEMS[0], ITEMS[3]}


def test_the_page_takes_the_ids_of_the_data_set(client: flask.testing.FlaskClient) -> None:
    text = client.get("/").text
    assert 'data-nobody="nobody"' in text and "data-userids-are-text" in text and "inputmode" not in text
    for client in client_of(text_data(frozenset())):
        text = client.get("/").text
        assert 'data-nobody="0"' in text and "data-userids-are-text" not in text and 'inputmode="numeric"' in text
    taken = dataclasses.replace(text_data(), users=(internal_id("nobody"),))
    assert page.nobody(taken) == "nobody-"


@pytest.mark.parametrize(
    ("lowest", "highest", "offered", "stars"),
    [
        (0.5, 5, [5, 4, 3, 2, 1], True),
        (1, 5, [5, 4, 3, 2, 1], True),
        (1, 10, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1], False),
        (0, 1, [1, 0], False),
        (0.2, 1.2, [1.2, 0.2], False),
        (1.1, 4.9, [4.9, 3.9, 2.9, 1.9], True),
        (0, 100, [100, 75, 50, 25, 0], False),
        (-10, 10, [10, 5, 0, -5, -10], False),
        (0, 0.3, [0.3, 0.225, 0.15, 0.075, 0], False),
    ],
)
def test_the_page_offers_ratings_of_the_scale(lowest: float, highest: float, offered: list[float], stars: bool) -> None:
    scale = RatingScale(lowest=lowest, highest=highest, positive_above=lowest)
    assert page.offered_ratings(scale) == offered and page.has_stars(scale) == stars
