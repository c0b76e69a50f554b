"""Establishes on the real servers that the log comes into tables as a whole and once, and equals what is recomputed."""

import secrets
import time
from pathlib import Path

import pytest
import requests

from data_exchange_center import catalogue
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.serving_names import REDIS_ADDED, REDIS_EVENT_LOG, REDIS_IMPRESSIONS
from data_exchange_center.settings import Settings
from offline_to_online.recall.s1_user_to_redis import remove_others, users_with_rows
from online.callers.redis_stores import redis_client
from online.callers.redis_streams import EntryId, added
from online.impression_log import PAUSE
from online_to_offline import s1_log_to_tables, s2_training_rows
from tests.conftest import Stack

NEW_USER = 890_123
AT = 1_046_500_000


@pytest.fixture
def own_tables(served: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack, with a root of artefacts of its own that has the same offline artefacts."""
    (tmp_path / "offline").symlink_to(served.artefacts / "offline")
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    return served


def drained_requests() -> list[str]:
    """The requests of the lists in the table, each once."""
    s1_log_to_tables.main()
    table = catalogue.IMPRESSIONS_LOG.load([LogColumn.REQUEST_ID, LogColumn.POSITION])
    return [row[LogColumn.REQUEST_ID] for row in table.to_pylist() if row[LogColumn.POSITION] == 1]


def wait_for(client: object, stream: str, entries: int) -> None:
    """Until the stream has got so many; what was shown is logged a moment later."""
    deadline = time.monotonic() + 5
    while added(client, stream) < entries:  # type: ignore[arg-type]
        assert time.monotonic() < deadline, f"{stream} has {added(client, stream)} of {entries}"  # type: ignore[arg-type]
        time.sleep(0.05)


def test_the_log_becomes_tables(own_tables: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    own = secrets.token_hex(4)  # of the requests of this test
    time.sleep(3 * PAUSE)  # what other tests were shown is logged a moment later
    s1_log_to_tables.main()  # what other tests have left
    before = catalogue.LOG_POSITIONS.load()
    users = catalogue.USER_FILTER.load([Column.USERID])[Column.USERID].to_pylist()[-12:]
    with redis_client(Settings(), 5) as client:
        lists, events = added(client, REDIS_IMPRESSIONS), added(client, REDIS_EVENT_LOG)
        for user in users:
            requests.get(
                f"{own_tables.url}/recommend?userid={user}", headers={"X-Request-ID": f"{own}-{user}"}, timeout=5
            )
        popular = own_tables.recommend(NEW_USER, size=3)["items"][1]["itemid"]
        headers = {"X-Request-ID": f"{own}-new"}
        requests.get(f"{own_tables.url}/recommend?userid={NEW_USER}&size=3", headers=headers, timeout=5)
        event = {"userid": NEW_USER, "itemid": popular, "rating": 5, "ts": AT, "request_id": f"{own}-new"}
        for accepted in (1, 0):  # the second one is a duplicate, and is not logged
            content = requests.post(f"{own_tables.url}/events", json=event, timeout=5).json()
            assert content["accepted"] == accepted
        wait_for(client, REDIS_IMPRESSIONS, lists + len(users) + 2)
        wait_for(client, REDIS_EVENT_LOG, events + 1)
        assert added(client, REDIS_EVENT_LOG) == events + 1
        remove_others(client, users_with_rows())  # as a load does at its end: the logs stay
        assert client.exists(REDIS_IMPRESSIONS, REDIS_EVENT_LOG) == 2

    # A drain that is killed behind the tables, before the streams are cut off, doubles nothing.
    with monkeypatch.context() as killed:
        killed.setattr(s1_log_to_tables, "cut_off", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            s1_log_to_tables.main()
    with monkeypatch.context() as small:
        small.setattr(s1_log_to_tables, "ENTRIES_AT_A_TIME", 3)
        found = drained_requests()
    # Two workers logged them, each its own ones in order.
    assert sorted(name for name in found if name.startswith(own)) == sorted(f"{own}-{user}" for user in (*users, "new"))
    assert len(drained_requests()) == len(found)
    with redis_client(Settings(), 5) as client:
        assert not client.xlen(REDIS_EVENT_LOG)
    positions = catalogue.LOG_POSITIONS.load()
    assert positions.impressions.read == before.impressions.read + len(users) + 2
    assert positions.events == before.events.model_copy(
        update={**positions.events.model_dump(include={"milliseconds", "number"}), "read": before.events.read + 1}
    )

    s2_training_rows.main()
    rows = catalogue.LOG_ROWS.load()
    assert rows.checked >= 50 * len(users) and rows.different == 0
    assert catalogue.EVENT_RATINGS.load().to_pylist()[-1][Column.ITEMID] == popular
    seen = catalogue.EXPOSURES.load().to_pylist()[-2:]
    assert [(row[LogColumn.POSITION], row[LogColumn.ACTED], row[Column.LABEL]) for row in seen] == [
        (1, 0, 0),
        (2, 1, 1),
    ]

    # The check can fail: one feature of one item is another one now.
    monkeypatch.setattr(
        "online_to_offline.recomputed_features.feature_digests", lambda _, items: ["00000000"] * len(items)
    )
    s2_training_rows.main()
    assert catalogue.LOG_ROWS.load().different == rows.checked


def test_what_cannot_be_read_is_left_out_and_what_was_dropped_is_counted(own_tables: Stack) -> None:
    s1_log_to_tables.main()
    before = catalogue.LOG_POSITIONS.load()
    with redis_client(Settings(), 5) as client:
        for content in ("{", '{"userid": 1}', '{"userid": 1, "itemid": 2, "rating": 4, "ts": 5}'):
            client.xadd(REDIS_EVENT_LOG, {"entry": content})
            client.incr(REDIS_ADDED.format(REDIS_EVENT_LOG))
        client.xtrim(REDIS_EVENT_LOG, maxlen=2, approximate=False)
    s1_log_to_tables.main()
    after = catalogue.LOG_POSITIONS.load()
    assert after.events.read - before.events.read == 2 and after.events.lost - before.events.lost == 1
    assert after.events.unreadable - before.events.unreadable == 1
    assert catalogue.EVENTS_LOG.load().to_pylist()[-1][Column.ITEMID] == 2
    assert EntryId.parse(b"12-3") < EntryId(12, 4) < EntryId(13, 0)
