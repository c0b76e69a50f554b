"""Establishes that pages repeat nothing and end, whatever comes in between, and which cursors are refused."""

import base64
import dataclasses
from collections.abc import Iterator
from typing import Any

import flask.testing
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center.settings import Settings
from online.callers.types import EVERYTHING, Candidates, ItemFilter, UserRecall
from online.engine import Engine
from online.item_table import ItemTable
from online.main.app import create_app
from online.paging import LONGEST_CURSOR, CursorError, cursor_after, shown_by, tag_of
from online.serving_data import ItemMetadata
from tests.online.stand_ins import DATA, Services, backends_of

MANY = {item: ItemMetadata(f"Item {item}", ("Drama",), item) for item in range(1, 431)}
LARGE = dataclasses.replace(
    DATA, items=MANY, popular=tuple((item, 1 / item) for item in MANY), vectors=np.zeros((431, 3), np.float32)
)
TABLE, TAG = LARGE.table, tag_of("user 1")


class ManyServices(Services):
    """Recall finds the first 200 items that are left."""

    def recall(
        self, user: UserRecall, possible: int, load: str, within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        self._call("elasticsearch")
        left = [item for item in MANY if item not in user.seen and item not in within.left_out][:200]
        self.found = list(range(len(left)))
        self.logits = [0.0] * len(left)
        return Candidates(
            np.array(left, np.int64), np.ones(len(left)), np.ones(len(left), bool), np.ones(len(left), bool)
        )


@pytest.fixture
def client() -> Iterator[flask.testing.FlaskClient]:
    engine = Engine(backends_of(ManyServices()), lambda: LARGE, lambda: None, 60.0, 2)
    yield create_app(Settings(), engine).test_client()
    engine.close()


def pages(client: flask.testing.FlaskClient, **asked: Any) -> Iterator[list[int]]:
    cursor: dict[str, str] = {}
    while True:
        content = client.post("/recommend", json={**asked, **cursor}).json
        assert content and "degraded" not in content, content
        yield [item["itemid"] for item in content["items"]]
        if "cursor" not in content:
            return
        cursor = {"cursor": content["cursor"]}


@pytest.mark.parametrize("size", [200, 97])
@pytest.mark.parametrize(
    ("asked", "known"), [({"userid": 1}, 428), ({"userid": 99}, 430), ({"session": [{"itemid": 7}]}, 429)]
)
def test_pages_show_everything_once_and_end(
    client: flask.testing.FlaskClient, size: int, asked: dict[str, Any], known: int
) -> None:
    found = list(pages(client, size=size, **asked))
    items = [item for page in found for item in page]
    assert len(items) == len(set(items)) == known
    assert [len(page) for page in found] == [size] * (known // size) + [known % size, 0]


def test_nothing_is_repeated_while_events_arrive(client: flask.testing.FlaskClient) -> None:
    found = []
    for number, page in enumerate(pages(client, userid=1, size=50)):
        found += page
        event = {"userid": 1, "itemid": 400 - number, "rating": 5, "ts": 1000 + number}  # of an item not shown yet
        assert client.post("/events", json=event).status_code == 200
    assert len(found) == len(set(found)) and len(found) > 400


def test_other_filters_hold_from_a_page_on(client: flask.testing.FlaskClient) -> None:
    first = client.get("/recommend?userid=1&size=10").json
    assert first
    asked = {"userid": 1, "size": 5, "cursor": first["cursor"], "exclude": [13, 15]}
    second = client.get("/recommend", query_string=asked).json
    assert second and [item["itemid"] for item in second["items"]] == [14, 16, 17, 18, 19]


def refused(client: flask.testing.FlaskClient, **asked: Any) -> str:
    response = client.get("/recommend", query_string=asked)
    assert response.status_code == 400 and response.json is not None and response.json["error"]["field"] == "cursor"
    return str(response.json["error"]["rule"])


def test_a_cursor_that_is_not_ones_own_is_refused_in_a_sentence(client: flask.testing.FlaskClient) -> None:
    first = client.get("/recommend?userid=1&size=10").json
    assert first
    cursor = first["cursor"]
    assert "somebody else's" in refused(client, userid=2, cursor=cursor)
    again = "as it came: ask without a cursor to begin again"
    for damaged in ("x", "AAAA", cursor[:-1], cursor[:-4], cursor[5:], cursor + "AAAA", cursor.swapcase()):
        assert again in refused(client, userid=1, cursor=damaged)
    assert "at most 6000" in refused(client, userid=1, cursor="A" * 6001)
    assert "pattern" in refused(client, userid=1, cursor="a b")
    assert "at least 1" in refused(client, userid=1, cursor="")
    other = cursor_after(np.array([1]), TAG, ItemTable.of({1: MANY[1], 2: MANY[2]}, ()))
    assert "has been replaced" in refused(client, userid=1, cursor=other)


@given(st.sets(st.integers(0, len(TABLE) - 1)))
def test_a_cursor_says_what_was_shown(rows: set[int]) -> None:
    cursor = cursor_after(np.array(sorted(rows, key=str), np.int64), TAG, TABLE)
    assert cursor and shown_by(cursor, TAG, TABLE).tolist() == sorted(rows)


@given(st.binary(max_size=80), st.integers(0, 20))
def test_no_token_does_more_than_be_refused(content: bytes, at: int) -> None:
    """Random bytes, and a whole token with some replaced."""
    whole = base64.urlsafe_b64decode(cursor_after(np.arange(9), TAG, TABLE) + "==")
    for token in (content, whole[:at] + content + whole[at + len(content) :]):
        try:
            rows = shown_by(base64.urlsafe_b64encode(token).rstrip(b"=").decode(), TAG, TABLE)
        except CursorError:
            continue
        assert token == whole and rows.tolist() == list(range(9))


def test_a_cursor_is_bounded_and_the_list_ends_there() -> None:
    table = ItemTable(np.arange(1_000_000), np.zeros(0, np.int64), np.zeros((0, 0), bool), np.zeros(0, np.int64), ())
    drawn = np.random.default_rng(1).permutation(1_000_000)
    deep = cursor_after(drawn[:2500], TAG, table)
    assert (
        deep and len(deep) <= LONGEST_CURSOR and set(shown_by(deep, TAG, table).tolist()) == set(drawn[:2500].tolist())
    )
    assert cursor_after(drawn[:10_000], TAG, table) is None
    whole = cursor_after(np.arange(10_000), TAG, table)
    assert whole and len(whole) < 200
