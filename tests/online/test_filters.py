"""Establishes that filters hold in every list: the recalled, the popular, GET's and POST's; and what is refused."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flask.testing
import pyarrow as pa
import pytest

from data_exchange_center.item_years import item_years
from data_exchange_center.settings import Settings
from online.diversity import DEFAULT_DIVERSITY
from online.engine import Engine
from online.main.app import create_app
from online.serving_data import ItemMetadata
from tests.online.stand_ins import DATA, Services, backends_of

ITEMS = {
    1: ItemMetadata("One (1990)", ("Drama",), 1, None, 1990),
    2: ItemMetadata("Two (1995)", ("Drama", "War"), 2, None, 1995),
    3: ItemMetadata("Three (1999)", ("Comedy",), 3, None, 1999),
    4: ItemMetadata("Four", ("War",), 4),
    5: ItemMetadata("Five (2001)", (), 5, None, 2001),
}
FILTERED = dataclasses.replace(DATA, items=ITEMS)


class FilteredServices(Services):
    def __init__(self, down: tuple[str, ...] = ()) -> None:
        super().__init__(down)
        self.items = ITEMS


def client_on(services: Services) -> Iterator[flask.testing.FlaskClient]:
    engine = Engine(backends_of(services), lambda: FILTERED, lambda: None, 60.0, 2)
    yield create_app(Settings(), engine).test_client()
    engine.close()


@pytest.fixture
def services() -> FilteredServices:
    return FilteredServices()


@pytest.fixture
def client(services: FilteredServices) -> Iterator[flask.testing.FlaskClient]:
    yield from client_on(services)


def ids(content: Any) -> list[int]:
    return [item["itemid"] for item in content["items"]]


FILTERS: list[tuple[dict[str, Any], set[int]]] = [
    ({"genres": ["War"]}, {2, 4}),
    ({"genres": ["War", "Comedy"]}, {2, 3, 4}),
    ({"genres_out": ["Drama"]}, {3, 4, 5}),
    ({"genres": ["War"], "genres_out": ["Drama"]}, {4}),
    ({"year_from": 1995}, {2, 3, 5}),
    ({"year_to": 1995}, {1, 2}),
    ({"year_from": 1995, "year_to": 1999}, {2, 3}),
    ({"year_from": 0}, {1, 2, 3, 5}),
    ({"year_from": 2000, "year_to": 1999}, set()),
    ({"exclude": [2, 77]}, {1, 3, 4, 5}),
]


@pytest.mark.parametrize(("asked", "passing"), FILTERS)
def test_lists_hold_what_passes_and_nothing_else(
    client: flask.testing.FlaskClient, services: FilteredServices, asked: dict[str, Any], passing: set[int]
) -> None:
    recalled = client.post("/recommend", json={"userid": 1, **asked}).json
    assert recalled and set(ids(recalled)) == {1, 2, 4} & passing
    assert services.possible == len(passing - {3, 5})  # whom user 1 has seen
    diverse = {"diversity": DEFAULT_DIVERSITY} if recalled["items"] else {}
    assert recalled["applied"] == {**asked, **({"exclude": 2} if "exclude" in asked else {}), **diverse}
    assert client.get("/recommend", query_string={"userid": 1, **asked}).json == recalled
    cold = client.post("/recommend", json={"userid": 99, **asked}).json
    assert cold and cold["fallback"] == "cold_start" and set(ids(cold)) == passing
    assert ids(cold) == sorted(ids(cold), reverse=True)  # by popularity
    services.down = ("elasticsearch",)
    degraded = client.post("/recommend", json={"userid": 1, **asked}).json
    assert degraded and degraded["degraded"] == ["elasticsearch"] and set(ids(degraded)) == passing - {3, 5}


def test_without_a_filter_nothing_is_said_to_be_applied(client: flask.testing.FlaskClient) -> None:
    plain = client.get("/recommend?userid=1&diversity=0").json
    assert plain and "applied" not in plain and set(ids(plain)) == {1, 2, 4}


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("genres=Dramas", "genres.0", "'Action', 'Adventure'"),
        ("genres_out=War&genres_out=Peace", "genres_out.1", "or 'Western'"),
        ("genres=", "genres.0", "or 'Western'"),
        ("exclude=x", "exclude.0", "integer"),
        ("exclude=0", "exclude.0", "greater than or equal to 1"),
        ("&".join(["exclude=1"] * 501), "exclude", "at most 500 items"),
        ("year_from=19x", "year_from", "integer"),
        ("year_from=-1", "year_from", "greater than or equal to 0"),
        ("year_to=10000", "year_to", "less than or equal to 9999"),
        ("year_to=1990&year_to=1991", "year_to", "may stand once"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_rule(
    client: flask.testing.FlaskClient, query: str, field: str, rule: str
) -> None:
    response = client.get(f"/recommend?userid=1&{query}")
    assert response.status_code == 400 and response.json is not None
    assert response.json["error"]["field"] == field and rule in response.json["error"]["rule"]


@pytest.mark.parametrize("asked", [{"year_from": None}, {"genres": None}, {"genres": "War"}, {"exclude": ["1"]}])
def test_a_body_is_read_strictly(client: flask.testing.FlaskClient, asked: dict[str, Any]) -> None:
    response = client.post("/recommend", json={"userid": 1, **asked})
    assert response.status_code == 400 and response.json is not None
    assert response.json["error"]["field"].split(".")[0] in asked


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("Toy Story (1995)", 1995),
        ("Dune (1984) ", 1984),
        ("Alias (2001-2006)", 2001),
        ("Alias (2001–)", 2001),
        ("2001: A Space Odyssey", None),
        ("(1994) Again", None),
        ("Brazil (a.k.a. 1985) (1986)", 1986),
        ("", None),
    ],
)
def test_the_year_stands_at_the_end_of_the_title(title: str, year: int | None) -> None:
    assert item_years(pa.table({"title": [title]}), {}) == [year]


def test_an_own_tables_column_of_years_goes_before_the_title() -> None:
    items = pa.table({"title": ["A (1990)", "B (1991)", "C"], "year": pa.array([2, 0, 1], pa.uint8())})
    assert item_years(items, {"year": ("unknown", "2004.0")}) == [2004, 1991, None]
