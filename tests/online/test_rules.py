"""Establishes what rules do to a list and to its pages, what no rule may do, and that a broken file changes nothing."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask.testing
import numpy as np
import pytest

from data_exchange_center.settings import Settings
from online import rules_file
from online.callers.types import Candidates
from online.engine import Engine
from online.main.app import create_app
from online.rules import RulesError, read_rules
from online.rules_file import RulesFile
from online.serving_data import ItemMetadata
from tests.online.stand_ins import DATA, backends_of
from tests.online.test_paging import ManyServices
from tests.online.test_text_ids import text_data

GENRES = ("Drama", "War")  # of the items with an odd and with an even id
ITEMS = {item: ItemMetadata(f"Item {item}", (GENRES[item % 2 == 0],), item) for item in range(1, 431)}
RULED = dataclasses.replace(
    DATA, items=ITEMS, popular=tuple((item, 1 / item) for item in ITEMS), vectors=np.zeros((431, 3), np.float32)
)


class Ruled:
    """The application with a file of rules that a test writes."""

    def __init__(self, file: Path) -> None:
        self.file, self.services = file, ManyServices()
        file.write_text("")
        self.engine = Engine(backends_of(self.services), lambda: RULED, lambda: None, 60.0, 2, RulesFile(file))
        self.client: flask.testing.FlaskClient = create_app(Settings(), self.engine).test_client()

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self.engine.rules._due = 0.0

    def ids(self, **asked: Any) -> list[int]:
        return [item["itemid"] for item in self.response(**asked)["items"]]

    def response(self, **asked: Any) -> Any:
        response = self.client.post("/recommend", json={"userid": 1, "size": 6, **asked})
        assert response.status_code == 200 and response.json and "degraded" not in response.json, response.text
        return response.json


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Ruled]:
    made = Ruled(tmp_path / "rules.toml")
    yield made
    made.engine.close()


NOTHING_ELSE = Candidates(np.array([1, 4]), np.zeros(2), np.ones(2, bool), np.ones(2, bool))
PLAIN = [1, 2, 4, 6, 7, 8]  # all score 0, so that ids decide; user 1 has seen 3 and 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", PLAIN),
        ("[[boost]]\nitemid = 7\nby = 1", [7, 1, 2, 4, 6, 8]),
        ("[[bury]]\nitemid = 1\nby = 0.5", [2, 4, 6, 7, 8, 9]),
        ("[[boost]]\ngenre = 'War'\nby = 1\n[[bury]]\nitemid = 4\nby = 3", [2, 6, 8, 10, 12, 14]),
        ("[[cap]]\ngenre = 'War'\nmost = 1\ntop = 4", [1, 2, 7, 9, 4, 6]),
        ("[[cap]]\ngenre = 'War'\nmost = 0\ntop = 2\n[[cap]]\ngenre='Drama'\nmost=1\ntop=2", [1, 2, 4, 6, 7, 8]),
        ("[[pin]]\nitemid = 9\nplace = 2", [1, 9, 2, 4, 6, 7]),
        ("[[pin]]\nitemid = 300\nplace = 1\n[[pin]]\nitemid = 1\nplace = 3", [300, 2, 1, 4, 6, 7]),
        ("[[pin]]\nitemid = 2\nplace = 6", [1, 4, 6, 7, 8, 2]),
        ("[[pin]]\nitemid = 3\nplace = 1", PLAIN),  # which user 1 has seen
        ("[[pin]]\nitemid = 8\nplace = 1\n[[cap]]\ngenre = 'War'\nmost = 1\ntop = 3", [8, 1, 7, 2, 4, 6]),
    ],
)
def test_what_rules_do(ruled: Ruled, text: str, expected: list[int]) -> None:
    ruled.write(text)
    assert ruled.ids() == expected


def test_rules_say_on_which_items_they_acted(ruled: Ruled) -> None:
    ruled.write(
        "[[pin]]\nname = 'week of war'\nitemid = 300\nplace = 1\n[[boost]]\nitemid = 7\nby = 1\n"
        "[[cap]]\ngenre = 'War'\nmost = 1\ntop = 4"
    )
    found = ruled.response(explain=True)
    acted = {item["itemid"]: item.get("rules") for item in found["items"]}
    assert acted == {300: ["week of war"], 7: ["boost 1"], 1: None, 9: None, 2: ["cap 1"], 4: ["cap 1"]}
    assert found["applied"]["rules"] == ["boost 1", "cap 1", "week of war"]
    pinned = found["items"][0]
    assert pinned["recalled_by"] == ["rule"] and pinned["logit"] is None and pinned["score"] == pinned["recall_score"]
    assert "rules" not in ruled.response()["items"][0]


def test_no_rule_pins_what_is_kept_out(ruled: Ruled) -> None:
    ruled.write("[[pin]]\nitemid = 300\nplace = 1")
    assert ruled.ids()[0] == ruled.ids(userid=99)[0] == 300
    for asked in ({"exclude": [300]}, {"genres": ["Drama"]}, {"genres_out": ["War"]}, {"year_from": 1}):
        assert 300 not in ruled.ids(**asked)
    first = ruled.response()
    assert 300 not in ruled.ids(cursor=first["cursor"])


def test_places_and_caps_count_over_pages(ruled: Ruled) -> None:
    ruled.write("[[pin]]\nitemid = 2\nplace = 8\n[[cap]]\ngenre = 'War'\nmost = 3\ntop = 9")
    first = ruled.response()
    second = ruled.ids(cursor=first["cursor"])
    together = [*(item["itemid"] for item in first["items"]), *second]
    assert together == [1, 4, 6, 7, 9, 11, 13, 2, 15, 8, 10, 12]


def test_a_pinned_item_is_not_lost_where_the_list_ends_before_its_place(ruled: Ruled) -> None:
    ruled.write("[[pin]]\nitemid = 2\nplace = 100")
    ruled.services.recall = lambda *_: NOTHING_ELSE  # type: ignore[method-assign]
    ruled.services.found, ruled.services.logits = [0, 1], [0.0, 0.0]
    assert ruled.ids() == [1, 4, 2]


def test_a_broken_edit_keeps_the_rules_and_says_so(ruled: Ruled, caplog: pytest.LogCaptureFixture) -> None:
    ruled.write("[[boost]]\nitemid = 7\nby = 1")
    assert ruled.ids()[0] == 7
    for broken, sentence in (("[[boost]", "is no TOML"), ("[[boost]]\nby = 1", "boost 1: Value error, must name")):
        ruled.write(broken)
        assert ruled.ids()[0] == 7
        ready = ruled.client.get("/ready")
        assert ready.status_code == 200 and ready.json and sentence in ready.json["rules"]
        assert sentence in caplog.text and "the rules stay as they were" in caplog.text
    ruled.file.unlink()
    ruled.engine.rules._due = 0.0
    assert ruled.ids()[0] == 7 and "cannot be read" in str(ruled.engine.rules.fault)
    ruled.write("[[boost]]\nitemid = 8\nby = 1")
    assert ruled.ids()[0] == 8 and "rules" not in (ruled.client.get("/ready").json or {})


def test_the_file_is_looked_at_again_after_a_second(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ruled.ids() == PLAIN
    ruled.file.write_text("[[boost]]\nitemid = 7\nby = 1")
    os.utime(ruled.file, (1, 1))
    assert ruled.ids() == PLAIN
    monkeypatch.setattr(rules_file.time, "monotonic", lambda: ruled.engine.rules._due + 0.1)
    assert ruled.ids()[0] == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pin = 3", "pin: Input should be a valid"),
        ("[[pins]]\nitemid = 1", "pins: Extra inputs"),
        ("[[pin]]\nitemid = 1", "pin 1, place: Field required"),
        ("[[pin]]\nitemid = 1\nplace = 0", "pin 1, place: Input should be greater"),
        ("[[pin]]\nitemid = 999\nplace = 1", "pin 1, itemid: 999 is no item of the catalogue of five items"),
        ("[[pin]]\nitemid = '1'\nplace = 1", "pin 1, itemid: '1' is no item"),
        ("[[pin]]\nitemid = 1\nplace = 1\n[[pin]]\nitemid = 2\nplace = 1", "pin, place: 1 stands in two pins"),
        ("[[pin]]\nitemid = 1\nplace = 1\n[[pin]]\nitemid = 1\nplace = 2", "pin, itemid: 1 stands in two pins"),
        ("[[boost]]\nitemid = 1\ngenre = 'War'\nby = 1", "boost 1: Value error, must name either"),
        ("[[bury]]\ngenre = 'Wars'\nby = 1", "bury 1, genre: 'Wars' is none of Action, Adventure"),
        ("[[boost]]\nitemid = 1\nby = -1", "boost 1, by: Input should be greater"),
        ("[[boost]]\nitemid = 1\nby = inf", "boost 1, by: Input should be a finite"),
        ("[[cap]]\ngenre = 'War'\nmost = -1\ntop = 3", "cap 1, most: Input should be greater"),
    ],
)
def test_wrong_rules_are_refused_in_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RulesError) as refused:
        read_rules(text, RULED)
    assert str(refused.value).startswith(sentence)
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(RulesError, match="RULES_FILE .*rules.toml .*: correct it"):
        RulesFile(file).start(RULED)


def test_rules_name_text_ids_as_they_are() -> None:
    rules = read_rules("[[pin]]\nitemid = '007'\nplace = 1", text_data())
    assert rules.pins[0].itemid == next(iter(text_data().items))
