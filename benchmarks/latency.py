"""Times /recommend under load, and beside one client the floor: the calls on its critical path, alone."""

import http.client
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil

from benchmarks.load import ask
from data_exchange_center.assembler import UNKNOWN_ITEM, assemble
from data_exchange_center.serving_names import ES_EXACT_UP_TO
from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller
from services.__main__ import WEB, recorder_of

TIMEOUT = 5.0
WARM_UP = 200
CALLS = 600

Times = dict[str, float]


def floor(settings: Settings, users: Sequence[int]) -> dict[str, Any]:
    """Median milliseconds of each call alone, and of a whole request beside them in the same loop.

    In turns: for one user after the other, a request to the web server, then the same calls without it, one by one.
    Both then find the machine as the other left it. In loops: each call by itself, over and over, which finds every
    cache warm; no request can.
    """
    redis, es = RedisCaller(settings, TIMEOUT), ElasticsearchCaller(settings, TIMEOUT)
    feast, triton = FeastCaller(settings, TIMEOUT), TritonCaller(settings, TIMEOUT)
    known = {user: recall for user, recall in zip(users, redis.users(users), strict=True) if recall}
    rows = assemble(feast.features("user", users[:1])[0][0], np.tile(UNKNOWN_ITEM, (200, 1)))
    calls: dict[str, Callable[[int], Any]] = {
        "redis": redis.user,
        "elasticsearch": lambda user: es.recall(known[user], ES_EXACT_UP_TO),
        "feast": lambda user: feast.features("user", [user]),
        "triton": lambda _: triton.score(*rows),
    }
    connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)

    def request(user: int) -> None:
        connection.request("GET", f"/recommend?userid={user}")
        connection.getresponse().read()

    in_turns = _medians({"request": request, **calls}, list(known), together=True)
    in_loops = _medians(calls, list(known), together=False)
    connection.close()
    whole = in_turns.pop("request")
    return {
        "request_ms": whole,
        "calls_in_turns_ms": {**in_turns, "critical_path": critical_path(in_turns)},
        "calls_in_loops_ms": {**in_loops, "critical_path": critical_path(in_loops)},
        "request_over_calls_in_turns": round(whole / critical_path(in_turns), 2),
        "request_over_calls_in_loops": round(whole / critical_path(in_loops), 2),
    }


def critical_path(calls: Times) -> float:
    """Redis, then Elasticsearch and Feast at the same time, then Triton."""
    return round(calls["redis"] + max(calls["elasticsearch"], calls["feast"]) + calls["triton"], 2)


def _medians(calls: dict[str, Callable[[int], Any]], users: Sequence[int], together: bool) -> Times:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    rounds: list[list[str]] = [list(calls)] if together else [[name] for name in calls]
    for names in rounds:
        for turn, user in enumerate(itertools.islice(itertools.cycle(users), WARM_UP + CALLS)):
            for name in names:
                began = time.perf_counter()
                calls[name](user)
                if turn >= WARM_UP:
                    taken[name].append(time.perf_counter() - began)
    return {name: round(float(np.median(times)) * 1000, 2) for name, times in taken.items()}


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
