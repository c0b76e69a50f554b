"""Times /recommend: one client beside its floor, 16 clients, reloads under load, and how soon an event counts.

    python -m benchmarks.requests          (while `make run` is up)

The floor is the sum of the calls on a request's critical path (Redis, then the slower of Elasticsearch and Feast, then
Triton), each measured alone in the same run. Writes `.run/requests.json`; ends with status 1 when a request fails.
"""

import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from benchmarks.load import Outcome, ask, machine
from data_exchange_center import catalogue
from data_exchange_center.assembler import UNKNOWN_ITEM, assemble
from data_exchange_center.columns import USERID
from data_exchange_center.serving_names import ES_EXACT_UP_TO
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller
from services.__main__ import WEB, recorder_of

TIMEOUT = 5.0
CALLS = 400
WARM_UP = 200
SECONDS = 30
RELOADS = ("offline_to_online.rank.s2_model_to_triton",) * 5 + ("offline_to_online.recall.s2_item_to_es",)


def milliseconds(call: Callable[[int], Any], users: list[int]) -> float:
    """Median time of a call, after a warm-up."""
    taken = []
    for turn, user in enumerate(itertools.islice(itertools.cycle(users), WARM_UP + CALLS)):
        began = time.perf_counter()
        call(user)
        if turn >= WARM_UP:
            taken.append(time.perf_counter() - began)
    return round(float(np.median(taken)) * 1000, 2)


def floor(settings: Settings, users: list[int]) -> dict[str, float]:
    """Each call alone, and the sum along the critical path, in milliseconds."""
    redis, es = RedisCaller(settings, TIMEOUT), ElasticsearchCaller(settings, TIMEOUT)
    feast, triton = FeastCaller(settings, TIMEOUT), TritonCaller(settings, TIMEOUT)
    known = {user: recall for user, recall in zip(users, redis.users(users), strict=True) if recall}
    users = list(known)
    rows = assemble(feast.features("user", users[:1])[0][0], np.tile(UNKNOWN_ITEM, (200, 1)))
    calls = {
        "redis": milliseconds(redis.user, users),
        "elasticsearch": milliseconds(lambda user: es.recall(known[user], ES_EXACT_UP_TO), users),
        "feast": milliseconds(lambda user: feast.features("user", [user]), users),
        "triton": milliseconds(lambda _: triton.score(*rows), users),
    }
    whole = calls["redis"] + max(calls["elasticsearch"], calls["feast"]) + calls["triton"]
    return {**calls, "critical_path": round(whole, 2)}


def processor_seconds(settings: Settings) -> dict[str, float]:
    """What each server has used so far."""
    recorder, used = recorder_of(settings), defaultdict[str, float](float)
    for name in recorder.names():
        for member in recorder.family(name):
            times = member.cpu_times()
            used["web" if name == WEB else name] += times.user + times.system
    used["clients"] = sum(psutil.Process().cpu_times()[:2])
    return used


def under_load(settings: Settings, users: list[int], clients: int) -> dict[str, Any]:
    """SECONDS of it, and where the cores went."""
    before, end = processor_seconds(settings), time.monotonic() + SECONDS
    outcome = ask(settings, users, clients, lambda: time.monotonic() < end)
    used = {name: seconds - before[name] for name, seconds in processor_seconds(settings).items()}
    per_request = {name: round(seconds / len(outcome.seconds) * 1000, 2) for name, seconds in used.items()}
    return {**outcome.summary(), "processor_ms_a_request": per_request}


def reload_under_load(settings: Settings, users: list[int]) -> dict[str, Any]:
    """Ten model versions and two indices, one after the other, with 4 clients asking."""
    loading, outcomes = threading.Event(), list[Outcome]()
    loading.set()
    load = threading.Thread(target=lambda: outcomes.append(ask(settings, users, 4, loading.is_set)))
    load.start()
    try:
        for loader in RELOADS * 2:
            subprocess.run([sys.executable, "-m", loader], cwd=ROOT, check=True, capture_output=True)
    finally:
        loading.clear()
        load.join()
    return {**outcomes[0].summary(), "model_versions_seen": len(outcomes[0].versions - {None})}


def event_to_answer(settings: Settings, users: list[int]) -> dict[str, float]:
    """Milliseconds until an event is acknowledged, and from there to the next answer, which leaves the item out."""
    connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)

    def call(method: str, path: str, content: Any = None) -> Any:
        connection.request(method, path, json.dumps(content), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    acknowledged, visible = [], []
    for user in users[:50]:
        item = call("GET", f"/recommend?userid={user}")["items"][0]["itemid"]
        times = [time.perf_counter()]
        call("POST", "/events", {"userid": user, "itemid": item, "rating": 4, "ts": int(time.time())})
        times.append(time.perf_counter())
        answer = call("GET", f"/recommend?userid={user}")
        times.append(time.perf_counter())
        if item in [line["itemid"] for line in answer["items"]]:
            raise AssertionError(f"user {user} is still recommended item {item}")
        acknowledged.append(times[1] - times[0])
        visible.append(times[2] - times[1])
    return {
        "acknowledged_p50_ms": round(float(np.median(acknowledged)) * 1000, 2),
        "next_answer_p50_ms": round(float(np.median(visible)) * 1000, 2),
        "next_answer_slowest_ms": round(max(visible) * 1000, 2),
    }


def main() -> None:
    """All of it, then the report."""
    settings = Settings()
    users = catalogue.load_table(catalogue.USER_FILTER, [USERID])[USERID].to_pylist()
    np.random.default_rng(0).shuffle(users)
    report: dict[str, Any] = {
        "dataset": catalogue.load_json(catalogue.DATASET)["dataset"],
        "machine": machine(),
        "warm_up": under_load(settings, users, 4)["requests"],
        "floor_ms": floor(settings, users),
        "1_client": under_load(settings, users, 1),
        "16_clients": under_load(settings, users, 16),
        "reloads": reload_under_load(settings, users),
        "events": event_to_answer(settings, users),
    }
    report["p50_over_floor"] = round(report["1_client"]["p50_ms"] / report["floor_ms"]["critical_path"], 2)
    (settings.folder(settings.run_dir) / "requests.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    for name in ("1_client", "16_clients", "reloads"):
        part = report[name]
        if set(part["statuses"]) != {200} or part["connection_errors"] or part["answers_without_items"]:
            print(f"error: {name}: not every request was answered.", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
