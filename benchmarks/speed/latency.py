"""Times /recommend under load, and for one client the floor beside it: the calls on its critical path, alone."""

import http.client
import itertools
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psutil

from benchmarks.speed.load import ask
from benchmarks.speed.own_server import running
from data_exchange_center import catalogue
from data_exchange_center.assembler import ranking_inputs
from data_exchange_center.limits import RANKER_IMPRESSIONS, RECALL_SIZE
from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_stores import redis_caller
from online.callers.triton_caller import TritonCaller
from services.stack import WEB, recorder_of
from testkit.stack import free_ports

TIMEOUT = 5.0  # seconds
START_SECONDS = 30.0
# What is timed takes turns: each of the measurements below runs for a block of users, then the next one does, so that a
# slow minute of the machine slows all of them. The first users of a block are not counted, since the caches still hold
# what the measurement before them left there.
BLOCK, LEFT_OUT = 50, 10
BLOCKS, WARM_UP_BLOCKS = 24, 3

Times = dict[str, float]


class Calls:
    """A request's calls to the four services, without the request."""

    def __init__(self, settings: Settings) -> None:
        """Connects, and prepares the model's inputs for one user's candidates, which are as large as any other's."""
        self.redis, self.es = redis_caller(settings, TIMEOUT), ElasticsearchCaller(settings, TIMEOUT)
        self.feast, self.triton = FeastCaller(settings, TIMEOUT), TritonCaller(settings, TIMEOUT)
        shape, sequence = (1, RECALL_SIZE), np.zeros((1, RANKER_IMPRESSIONS), np.int64)
        recalled = np.zeros(shape), np.zeros(shape, bool), np.ones(shape, bool)
        self.features = catalogue.DATASET.load().features
        items = np.zeros((*shape, len(self.features.item_columns)), np.int64)
        user = self.feast.features(self.features, "user", [1])[0]
        self.inputs = ranking_inputs(self.features, user, items, recalled, (sequence, sequence))

    def make(self, userid: int) -> Times:
        """Makes them as online/recommender.py does, Feast at work while Elasticsearch searches.

        Returns:
            The seconds that each service was waited for.
        """
        moments = [time.perf_counter()]
        user = self.redis.user(userid)
        moments.append(time.perf_counter())
        features = self.feast.request_features(self.features, "user", [userid])
        moments.append(time.perf_counter())
        if user:
            self.es.search(user)
        moments.append(time.perf_counter())
        features()
        moments.append(time.perf_counter())
        self.triton.score(self.inputs)
        moments.append(time.perf_counter())
        redis, sending, es, waiting, triton = np.diff(moments).tolist()
        return {"redis": redis, "elasticsearch": es, "feast": sending + waiting, "triton": triton}


def floor(settings: Settings, users: Sequence[int]) -> dict[str, Any]:
    """Median milliseconds of a whole request, and of its calls without it.

    The calls are measured as a request makes them, where Feast's share is what it costs beside Elasticsearch; and each
    by itself, over and over, which finds every cache warm and no other call under way. Beside them, a request to a
    server that makes only the calls (benchmarks/speed/calls_only.py).
    """
    calls = Calls(settings)
    known = {user: recall for user, recall in zip(users, calls.redis.users(users), strict=True) if recall}
    alone: dict[str, Callable[[int], Any]] = {
        "redis": calls.redis.user,
        "elasticsearch": lambda user: calls.es.search(known[user]),
        "feast": lambda user: calls.feast.features(calls.features, "user", [user]),
        "triton": lambda _: calls.triton.score(calls.inputs),
    }
    with calls_only(settings) as port:
        real, bare = (
            http.client.HTTPConnection(settings.web_host, p, timeout=TIMEOUT) for p in (settings.web_port, port)
        )
        measurements: dict[str, Callable[[int], Times]] = {
            "request": partial(_timed, "whole", partial(_get, real)),
            "calls only": partial(_timed, "whole", partial(_get, bare)),
            "as made": calls.make,
            **{f"{name} alone": partial(_timed, name, call) for name, call in alone.items()},
        }
        found = _in_blocks(measurements, list(known))
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
    """Redis, then Elasticsearch and Feast at the same time, then Triton, from calls that were measured one by one."""
    return round(calls["redis"] + max(calls["elasticsearch"], calls["feast"]) + calls["triton"], 2)


@contextmanager
def calls_only(settings: Settings) -> Iterator[int]:
    """Runs the server of benchmarks/speed/calls_only.py, on the port that the block gets."""
    (port,) = free_ports(1)
    is_up = partial(_listens, settings.web_host, port)
    with running("benchmarks.speed.calls_only", {"WEB_PORT": str(port)}, is_up, START_SECONDS):
        yield port


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


def _in_blocks(measurements: dict[str, Callable[[int], Times]], users: Sequence[int]) -> dict[str, Times]:
    """Median milliseconds of what each measurement times."""
    taken: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in measurements}
    turn = itertools.cycle(users)
    for block in range(WARM_UP_BLOCKS + BLOCKS):
        some = list(itertools.islice(turn, BLOCK))
        for name, measure in measurements.items():
            for place, user in enumerate(some):
                times = measure(user)
                if block >= WARM_UP_BLOCKS and place >= LEFT_OUT:
                    for part, seconds in times.items():
                        taken[name][part].append(seconds)
    return {
        name: {part: round(float(np.median(seconds)) * 1000, 2) for part, seconds in times.items()}
        for name, times in taken.items()
    }


def processor_seconds(settings: Settings) -> Times:
    """The processor time that each server, and this process with its clients, has used so far."""
    recorder, used = recorder_of(settings), defaultdict[str, float](float)
    for name in recorder.names():
        for member in recorder.family(name):
            times = member.cpu_times()
            used["web" if name == WEB else name] += times.user + times.system
    used["clients"] = sum(psutil.Process().cpu_times()[:2])
    return used


def under_load(settings: Settings, users: Sequence[int], clients: int, seconds: float) -> dict[str, Any]:
    """The outcome of so many clients for so long, with the processor time that a request takes of each server."""
    before, end = processor_seconds(settings), time.monotonic() + seconds
    outcome = ask(settings, users, clients, lambda: time.monotonic() < end)
    used = {name: seconds - before[name] for name, seconds in processor_seconds(settings).items()}
    per_request = {name: round(seconds / len(outcome.seconds) * 1000, 2) for name, seconds in used.items()}
    return {**outcome.summary(), "processor_ms_a_request": per_request}
