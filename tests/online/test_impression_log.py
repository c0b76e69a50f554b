"""Establishes that what is shown is logged as it was shown, and that no answer waits for the log or fails with it."""

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from data_exchange_center.log_entries import LoggedEvent, ShownList, feature_digests
from data_exchange_center.settings import Settings
from online.callers.types import ServiceUnavailable
from online.engine import Engine
from online.impression_log import DROPPED, WAITING, WRITTEN, ImpressionLog
from online.main.app import create_app
from online.main.request_log import close_log
from online.shown import Shown
from tests.online.stand_ins import DATA, Services, engine_on


class Log:
    """Keeps what it is given; `fault` is raised instead where there is one."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.entries: list[ShownList] = []
        self.counts: Counter[str] = Counter()
        self.fault = fault

    def append(self, entries: list[str]) -> None:
        if self.fault:
            raise self.fault
        self.entries += [ShownList.model_validate_json(entry) for entry in entries]

    def of(self, engine: Engine) -> Any:
        """The application with this log; the client of it, and what ends both."""
        log = ImpressionLog(self.append, lambda outcome, lists: self.counts.update({outcome: lists}), 0.01)
        app = create_app(Settings(), engine, log)
        return app.test_client(), lambda: (close_log(app), engine.close())


def test_what_was_shown_is_logged() -> None:
    log = Log()
    client, end = log.of(engine_on(Services()))
    with client.get("/recommend?userid=1&size=2", headers={"X-Request-ID": "r-1"}) as response:
        shown = response.get_json()["items"]
    with client.get("/recommend?userid=7&size=1") as response:
        assert response.get_json()["fallback"] == "cold_start"
    with client.get("/recommend?userid=x"), client.get("/users"):
        pass
    end()
    known, unknown = log.entries
    assert log.counts == {WRITTEN: 2, DROPPED: 0}
    assert (known.request_id, known.userid, known.load, known.model_version) == ("r-1", 1, DATA.load_digest, "7")
    assert known.items == [item["itemid"] for item in shown] and known.scores == [item["score"] for item in shown]
    assert known.recalled_by == ["+".join(item["recalled_by"]) for item in shown]
    assert known.recall_scores == pytest.approx([item["recall_score"] for item in shown], rel=1e-5)
    assert (known.recent_items, known.recent_ratings) == ([5, 3], [5.0, 2.0])
    assert (known.arm, known.propensity, known.degraded, known.fallback) == ("default", 1.0, [], None)
    assert len(set(known.features)) == 2  # the two items have other indices
    assert (unknown.userid, unknown.features, unknown.fallback) == (7, [], "cold_start")


@pytest.mark.parametrize("fault", [ServiceUnavailable("redis", "away"), ValueError("a fault of the program")])
def test_a_log_that_fails_fails_no_answer(fault: Exception) -> None:
    log = Log(fault)
    client, end = log.of(engine_on(Services()))
    for _ in range(3):
        with client.get("/recommend?userid=1") as response:
            assert response.status_code == 200 and response.get_json()["items"]
    log.fault = None
    with client.get("/recommend?userid=1"):
        pass
    end()
    assert log.counts[DROPPED] + log.counts[WRITTEN] == 4 and log.counts[WRITTEN] == len(log.entries)


def test_a_full_queue_drops_at_once_and_counts() -> None:
    free, counts = threading.Event(), Counter[str]()
    log = ImpressionLog(lambda _: free.wait(), lambda outcome, lists: counts.update({outcome: lists}), 0.0)  # type: ignore[arg-type]
    engine = engine_on(Services())
    shown = Shown(engine.recommend(1, 1), 1, "r", 0)
    for _ in range(2 * WAITING):
        log.put(shown)
    free.set()
    log.close()
    engine.close()
    assert counts[DROPPED] >= WAITING // 2 and counts[DROPPED] + counts[WRITTEN] == 2 * WAITING


def test_digests_tell_any_feature() -> None:
    user, items = np.arange(40), np.arange(38).reshape(2, 19)
    own = feature_digests(user, items)
    for change in range(40):
        other = user.copy()
        other[change] += 1
        assert not set(feature_digests(other, items)) & set(own)
    items[1, 18] += 1
    assert feature_digests(user, items)[0] == own[0] and feature_digests(user, items)[1] != own[1]


def test_events_name_the_request_that_they_answer() -> None:
    services = Services()
    client, end = Log().of(engine_on(services))
    event = {"userid": 1, "itemid": 2, "rating": 4, "ts": 9}
    for given, status in (("r-1", 200), ("", 400), ("two words", 400), ("x" * 65, 400), (7, 400)):
        with client.post("/events", json={**event, "request_id": given}) as response:
            assert response.status_code == status, response.text
    end()
    (taken,) = services.live[1].events
    assert taken.origin is not None and taken.origin.request_id == "r-1"
    LoggedEvent(**taken.origin.model_dump(), rating=taken.rating, ts=taken.timestamp)
