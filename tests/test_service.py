"""Establishes how the service behaves with the real servers: events, stalls, nonsense, reloads under load, stopping."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import flask.testing
import pytest
import redis
import requests

from benchmarks.speed.load import ask as ask_often
from data_exchange_center import catalogue
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.settings import Settings
from offline_to_online.__main__ import LOADERS
from online.callers.redis_stores import redis_caller
from online.main.app import create_app
from online.main.current import ENGINE
from services.processes import Recorder
from testkit.stack import free_ports
from tests.conftest import CHECK, ROOT, Stack, succeed

SERVICES = ("redis", "elasticsearch", "feast", "triton")
PORT_OF = {"redis": "REDIS_PORT", "elasticsearch": "ES_PORT", "feast": "FEAST_PORT", "triton": "TRITON_GRPC_PORT"}


pytestmark = pytest.mark.usefixtures("served")


def users() -> list[int]:
    found: list[int] = catalogue.USER_FILTER.load()["userid"].to_pylist()
    return found


def wait_until_whole(stack: Stack, userid: int) -> None:
    """Both workers have had their turn to find a returned service."""
    deadline, whole = time.monotonic() + 30, 0
    while whole < 10 and time.monotonic() < deadline:
        whole = 0 if "degraded" in stack.recommend(userid) else whole + 1
        time.sleep(0.1)
    assert whole == 10


def soon(value: Callable[[], float], expected: float) -> None:
    """What is noted of a request is noted once its response is sent."""
    deadline = time.monotonic() + 5
    while value() < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert value() == expected


# --- events ----------------------------------------------------------------------------------------------------------


def test_an_event_changes_the_next_list_and_the_check_holds(stack: Stack) -> None:
    userid = users()[17]
    before = stack.recommend(userid, explain=1, diversity=0)  # items of the same few genres
    items = [item["itemid"] for item in before["items"][:3]]
    events = [{"userid": userid, "itemid": item, "rating": 5, "ts": int(time.time())} for item in items]
    assert requests.post(f"{stack.url}/events", json=events, timeout=5).json() == {"accepted": 3, "duplicates": 0}
    acknowledged = time.perf_counter()
    after = stack.recommend(userid, explain=1)
    assert time.perf_counter() - acknowledged < 1
    assert not {item["itemid"] for item in after["items"]} & set(items)
    assert after["explain"]["user_features"] != before["explain"]["user_features"]
    assert requests.post(f"{stack.url}/events", json=events[0], timeout=5).json() == {"accepted": 0, "duplicates": 1}

    history = requests.get(f"{stack.url}/history", {"userid": userid}, timeout=5).json()["items"]
    assert [entry["itemid"] for entry in history[:3]] == items[::-1] and len(history) == 10

    newcomer = {"userid": 999_999_999, "rating": 4, "ts": 1}
    for item in before["items"][:6]:
        response = requests.post(f"{stack.url}/events", json={**newcomer, "itemid": item["itemid"]}, timeout=5)
        assert response.json()["accepted"] == 1
    known = stack.recommend(newcomer["userid"], explain=1)
    assert known["explain"]["terms"] and "fallback" not in known and known["explain"]["seen"] == 6

    printed = succeed(CHECK, **stack.env)
    of_events = redis_caller(Settings(), 5).events()  # other tests', too
    assert newcomer["userid"] in of_events
    assert f"features of {len({*users(), *of_events})} users are equal" in printed


def test_a_load_says_again_what_the_artefacts_say(stack: Stack) -> None:
    userid = users()[18]
    before = stack.recommend(userid)
    event = {"userid": userid, "itemid": before["items"][0]["itemid"], "rating": 1, "ts": int(time.time())}
    requests.post(f"{stack.url}/events", json=event, timeout=5).raise_for_status()
    for loader in (LOADERS[0], LOADERS[3]):
        succeed(loader, **stack.env)
    succeed(CHECK, **stack.env)
    assert stack.recommend(userid)["items"] == before["items"]


@pytest.mark.parametrize(
    ("event", "field", "status"),
    [
        ({"itemid": 1, "rating": 4, "ts": 1}, "userid", 400),
        ({"userid": 1, "itemid": 2**50, "rating": 4, "ts": 1}, "itemid", 404),
        ({"userid": 1, "itemid": 1, "rating": 6, "ts": 1}, "rating", 400),
        ({"userid": 1, "itemid": 1, "rating": 4, "ts": -1}, "ts", 400),
        ({"userid": 1, "itemid": 1, "rating": 4, "ts": 1000 * int(time.time())}, "ts", 400),
        ({"userid": 1, "itemid": 1, "rating": 4, "ts": int(time.time()) + 100_000}, "ts", 400),
        ([], "body", 400),
        ([{"userid": 1, "itemid": 1, "rating": 4, "ts": 1, "x": 1}], "0.x", 400),
    ],
)
def test_a_bad_event_is_refused(stack: Stack, event: Any, field: str, status: int) -> None:
    response = requests.post(f"{stack.url}/events", json=event, timeout=5)
    assert response.status_code == status and response.json()["error"]["field"] == field


def test_nothing_listens_beyond_this_machine_and_redis_wants_its_password(stack: Stack) -> None:
    """As `ss` shows it."""
    recorder = Recorder(Path(stack.env["RUN_DIR"]))
    processes = [recorder.running(name) for name in recorder.names()]
    family = [member for process in processes if process for member in (process, *process.children(recursive=True))]
    listening = {c.laddr.ip for member in family for c in member.net_connections("inet") if c.status == "LISTEN"}
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    arguments = " ".join(word for member in family for word in member.cmdline())
    for name in ("REDIS_PASSWORD", "ES_PASSWORD"):
        assert stack.env[name] not in arguments
    with (
        redis.Redis(port=int(stack.env["REDIS_PORT"])) as client,
        pytest.raises(redis.AuthenticationError, match="required"),
    ):
        client.ping()


# --- seen from outside -----------------------------------------------------------------------------------------------


def test_metrics_add_up_over_the_workers(stack: Stack) -> None:
    def counted() -> float:
        text = requests.get(f"{stack.url}/metrics", timeout=5).text
        found = re.search(r'recsys_request_seconds_count\{path="/recommend",status="200"\} ([\d.]+)', text)
        return float(found[1]) if found else 0.0

    before = counted()
    for userid in users()[:40]:  # new connections, so that both workers get some
        stack.recommend(userid)
    soon(counted, before + 40)
    assert counted() == before + 40  # whichever worker is asked


def test_a_request_id_comes_back_and_stands_in_the_log(stack: Stack) -> None:
    response = requests.get(f"{stack.url}/recommend?userid=1", headers={"X-Request-ID": "mine-1"}, timeout=5)
    assert response.headers["X-Request-ID"] == "mine-1"
    assert re.fullmatch("[0-9a-f]{16}", requests.get(f"{stack.url}/health", timeout=5).headers["X-Request-ID"])

    def lines(request_id: str) -> list[str]:
        log = Recorder(Path(stack.env["RUN_DIR"])).log("web").read_text()
        return [line for line in log.splitlines() if f'"{request_id}"' in line]

    soon(lambda: len(lines("mine-1")), 1)
    assert '"status": 200' in lines("mine-1")[0] and '"userid": 1' in lines("mine-1")[0]
    for number, (method, path) in enumerate(
        [
            ("GET", "/static/page.css"),
            ("HEAD", "/static/page.css"),
            ("HEAD", "/recommend?userid=1"),
            ("GET", "/nowhere"),
        ]
    ):
        requests.request(method, f"{stack.url}{path}", headers={"X-Request-ID": f"other-{number}"}, timeout=5)
        soon(lambda number=number: len(lines(f"other-{number}")), 1)  # type: ignore[misc]


def test_ranks_and_times_are_explained(stack: Stack) -> None:
    response = stack.recommend(users()[3], explain=1, size=200)
    assert set(response["explain"]["milliseconds"]) == {"redis", "elasticsearch", "feast", "triton"}
    assert len(response["explain"]["user_features"]) == 40
    assert sorted(item["ranks"]["recall"] for item in response["items"]) == list(range(1, 201))
    by_vector = sorted((i for i in response["items"] if i["ranks"]["vector"]), key=lambda i: i["ranks"]["vector"])
    # Without the bonus of the terms, what the vector found stands in the order of its scores.
    nearness = [item["recall_score"] - TERM_BONUS * ("term" in item["recalled_by"]) for item in by_vector]
    assert all(one > other - 1e-6 for one, other in pairwise(nearness)) and len(by_vector) >= 150


# --- stalls and nonsense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_a_stalled_service_costs_less_than_a_second(service: str, stack: Stack) -> None:
    """Stopped by SIGSTOP it still takes connections and never responds; then it goes on."""
    userid = users()[5]
    family = Recorder(Path(stack.env["RUN_DIR"])).family(service)
    assert family
    for member in family:
        member.suspend()
    try:
        for _ in range(12):
            began = time.perf_counter()
            response = stack.recommend(userid)
            assert time.perf_counter() - began < 1
            assert service in response["degraded"] and len(response["items"]) == 50
        ready = requests.get(f"{stack.url}/ready", timeout=5)
        assert ready.status_code == 503 and service in ready.json()["missing"]
    finally:
        for member in family:
            member.resume()
    wait_until_whole(stack, userid)
    assert requests.get(f"{stack.url}/ready", timeout=5).status_code == 200


@contextlib.contextmanager
def nonsense(response: bytes) -> Iterator[tuple[int, list[int]]]:
    """A server that responds to everything with `response`; its port, and a list that grows with each connection."""
    listener, connections = socket.create_server(("127.0.0.1", 0)), list[int]()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(1)
            with connection, contextlib.suppress(OSError):
                connection.settimeout(1)
                connection.recv(65536)
                connection.sendall(response)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], connections
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def http(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\nX-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


NONSENSE = {
    "bytes": b"\x00\xff nonsense \r\n\r\n",
    "json of another shape": http(b'[{"hits": 3}]'),
    "nulls": http(b'{"hits": {"hits": [{"_score": null}]}, "metadata": null, "results": null}'),
}


@pytest.mark.parametrize("what", NONSENSE)
@pytest.mark.parametrize("service", SERVICES)
def test_nonsense_is_not_believed_and_its_source_not_stormed(
    service: str, what: str, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    userid = users()[5]
    with nonsense(NONSENSE[what]) as (port, connections):
        monkeypatch.setenv(PORT_OF[service], str(port))
        app = create_app(Settings())
        client: flask.testing.FlaskClient = app.test_client()
        connections.clear()
        began = time.monotonic()
        for _ in range(40):
            response = client.get(f"/recommend?userid={userid}")
            assert response.status_code == 200 and response.json is not None
            assert service in response.json["degraded"] and len(response.json["items"]) == 50
        assert len(connections) <= 12 + 8 * (time.monotonic() - began)
        app.extensions[ENGINE].close()


# --- under load ------------------------------------------------------------------------------------------------------


def test_models_and_indices_are_loaded_again_without_a_failed_request(stack: Stack) -> None:
    loading, outcomes = threading.Event(), []
    loading.set()
    load = threading.Thread(target=lambda: outcomes.append(ask_often(Settings(), users(), 4, loading.is_set)))
    load.start()
    try:
        for loader in (LOADERS[4], LOADERS[1], LOADERS[2], LOADERS[4]):
            succeed(loader, **stack.env)
    finally:
        loading.clear()
        load.join()
    (outcome,) = outcomes
    assert set(outcome.statuses) == {200} and not outcome.connection_errors and not outcome.empty
    assert len(outcome.seconds) > 100 and len(outcome.versions) == 1


def test_stopping_lets_requests_under_way_finish(stack: Stack) -> None:
    """Requests are held up by a stalled Elasticsearch while the server gets its SIGTERM."""
    family = Recorder(Path(stack.env["RUN_DIR"])).family("elasticsearch")
    assert family
    (port,) = free_ports(1)
    statuses: list[int] = []
    with tempfile.TemporaryDirectory() as run_dir:
        env = {**os.environ, **stack.env, "WEB_PORT": str(port), "RUN_DIR": run_dir}
        server = subprocess.Popen(
            [sys.executable, "-m", "online.main.s1_server"], cwd=ROOT, env=env, stderr=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(f"{url}/health", timeout=5).ok:
                        break
                time.sleep(0.1)
            for member in family:
                member.suspend()

            def request() -> None:
                statuses.append(requests.get(f"{url}/recommend?userid={users()[0]}", timeout=5).status_code)

            threads = [threading.Thread(target=request) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.15)  # less than the 0.3 s that they wait for Elasticsearch
            server.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join()
            assert server.wait(15) == 0
        finally:
            for member in family:
                member.resume()
            server.kill()
            server.wait()
    assert statuses == [200] * 4
    wait_until_whole(stack, users()[0])


JUNK = {
    "zeros": b"\x00" * 100,
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "length": b"POST /events HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "header": b"GET /recommend?userid=1 HTTP/1.1\r\nX-Request-ID: \xff\xfe\r\n: y\r\n\r\n",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_raw_bytes_do_no_harm(junk: bytes, stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", int(stack.env["WEB_PORT"])), timeout=5) as connection:
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        received = connection.recv(65536)
    assert b"Traceback" not in received and not received.startswith(b"HTTP/1.1 5")
    assert requests.get(f"{stack.url}/health", timeout=5).ok
