"""Times /recommend under load, and beside one client the floor: the calls on its critical path, alone."""

import http.client
import itertools
import os
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psutil

from benchmarks.load import ask
from benchmarks.stack import free_ports
from data_exchange_center.assembler import UNKNOWN_ITEM, assemble
from data_exchange_center.serving_names import ES_EXACT_UP_TO
from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller
from services.__main__ import WEB, recorder_of

TIMEOUT = 5.0
START_SECONDS = 30.0
# Each way of asking has its turn for a block of users, so that all of them see the machine's slow minutes; the first of
# a block find the caches as another way left them and are not counted.
BLOCK, LEFT_OUT = 50, 10
BLOCKS, WARM_UP_BLOCKS = 24, 3

Times = dict[str, float]


class Calls:
    """The calls of a request to the four services, without the request."""

    def __init__(self, settings: Settings) -> None:
        """Connects, and takes what any user's candidates look like to the model."""
        self.redis, self.es = RedisCaller(settings, TIMEOUT), ElasticsearchCaller(settings, TIMEOUT)
        self.feast, self.triton = FeastCaller(settings, TIMEOUT), TritonCaller(settings, TIMEOUT)
        self.rows = assemble(self.feast.features("user", [1])[0][0], np.tile(UNKNOWN_ITEM, (200, 1)))

    def make(self, userid: int) -> Times:
        """As online/recommender.py makes them, in seconds: Feast works while Elasticsearch searches."""
        moments = [time.perf_counter()]
        user = self.redis.user(userid)
        moments.append(time.perf_counter())
        features = self.feast.ask("user", [userid])
        moments.append(time.perf_counter())
        if user:
            self.es.recall(user, ES_EXACT_UP_TO)
        moments.append(time.perf_counter())
        features()
        moments.append(time.perf_counter())
        self.triton.score(*self.rows)
        moments.append(time.perf_counter())
        redis, asking, es, answer, triton = np.diff(moments).tolist()
        return {"redis": redis, "elasticsearch": es, "feast": asking + answer, "triton": triton}


def floor(settings: Settings, users: Sequence[int]) -> dict[str, Any]:
    """Median milliseconds of a whole request, and of its calls without it.

    The calls are measured as a request makes them, where Feast's share is what it costs beside Elasticsearch; and each
    by itself, over and over, which finds every cache warm and no other call under way. Beside them, a request to a
    server that makes only the calls (benchmarks/calls_only.py).
    """
    calls = Calls(settings)
    known = {user: recall for user, recall in zip(users, calls.redis.users(users), strict=True) if recall}
    alone: dict[str, Callable[[int], Any]] = {
        "redis": calls.redis.user,
        "elasticsearch": lambda user: calls.es.recall(known[user], ES_EXACT_UP_TO),
        "feast": lambda user: calls.feast.features("user", [user]),
        "triton": lambda _: calls.triton.score(*calls.rows),
    }
    with calls_only(settings) as port:
        real, bare = (
            http.client.HTTPConnection(settings.web_host, p, timeout=TIMEOUT) for p in (settings.web_port, port)
        )
        ways: dict[str, Callable[[int], Times]] = {
            "request": partial(_timed, "whole", partial(_get, real)),
            "calls only": partial(_timed, "whole", partial(_get, bare)),
            "as made": calls.make,
            **{f"{name} alone": partial(_timed, name, call) for name, call in alone.items()},
        }
        found = _in_blocks(ways, list(known))
        real.close()
        bare.close()
    as_made, by_itself = found["as made"], {name: found[f"{name} alone"][name] for name in alone}
    whole, only = found["request"]["whole"], found["calls only"]["whole"]
    paths = {"as_made": round(sum(as_made.values()), 2), "by_itself": critical_path(by_itself)}
    return {
        "request_ms": whole,
        "calls_only_server_ms": only,
        "calls_as_made_ms": {**as_made, "critical_path": paths["as_made"]},
        "calls_by_themselves_ms": {**by_itself, "critical_path": paths["by_itself"]},
        "request_over_calls_as_made": round(whole / paths["as_made"], 2),
        "request_over_calls_by_themselves": round(whole / paths["by_itself"], 2),
        "calls_only_server_over_calls_as_made": round(only / paths["as_made"], 2),
        "calls_only_server_over_calls_by_themselves": round(only / paths["by_itself"], 2),
    }


def critical_path(calls: Times) -> float:
    """Redis, then Elasticsearch and Feast at the same time, then Triton; of calls measured by themselves."""
    return round(calls["redis"] + max(calls["elasticsearch"], calls["feast"]) + calls["triton"], 2)


@contextmanager
def calls_only(settings: Settings) -> Iterator[int]:
    """The server of benchmarks/calls_only.py, on the port that is given."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.calls_only"]
    server = subprocess.Popen(command, env={**os.environ, "WEB_PORT": str(port)}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(settings.web_host, port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not start: run it to see why.")
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _get(connection: http.client.HTTPConnection, user: int) -> None:
    connection.request("GET", f"/recommend?userid={user}")
    connection.getresponse().read()


def _timed(name: str, call: Callable[[int], Any], user: int) -> Times:
    began = time.perf_counter()
    call(user)
    return {name: time.perf_counter() - began}


def _in_blocks(ways: dict[str, Callable[[int], Times]], users: Sequence[int]) -> dict[str, Times]:
    """Median milliseconds of what each way times."""
    taken: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in ways}
    turn = itertools.cycle(users)
    for block in range(WARM_UP_BLOCKS + BLOCKS):
        some = list(itertools.islice(turn, BLOCK))
        for way, measure in ways.items():
            for place, user in enumerate(some):
                times = measure(user)
                if block >= WARM_UP_BLOCKS and place >= LEFT_OUT:
                    for name, seconds in times.items():
                        taken[way][name].append(seconds)
    return {
        way: {name: round(float(np.median(seconds)) * 1000, 2) for name, seconds in times.items()}
        for way, times in taken.items()
    }


def processor_seconds(settings: Settings) -> Times:
    """What each server has used so far."""
    recorder, used = recorder_of(settings), defaultdict[str, float](float)
    for name in recorder.names():
        for member in recorder.family(name):
            times = member.cpu_times()
            used["web" if name == WEB else name] += times.user + times.system
    used["clients"] = sum(psutil.Process().cpu_times()[:2])
    return used


def under_load(settings: Settings, users: Sequence[int], clients: int, seconds: float) -> dict[str, Any]:
    """So many clients for so long, and where the cores went."""
    before, end = processor_seconds(settings), time.monotonic() + seconds
    outcome = ask(settings, users, clients, lambda: time.monotonic() < end)
    used = {name: seconds - before[name] for name, seconds in processor_seconds(settings).items()}
    per_request = {name: round(seconds / len(outcome.seconds) * 1000, 2) for name, seconds in used.items()}
    return {**outcome.summary(), "processor_ms_a_request": per_request}
