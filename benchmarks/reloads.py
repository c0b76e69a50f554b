"""New model versions and indices under load, and how soon an event counts.

    python -m benchmarks.reloads          (while `make run` is up)

Writes `.run/reloads.json`; ends with status 1 when a request fails.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from benchmarks.load import Outcome, ask, machine
from data_exchange_center import catalogue
from data_exchange_center.columns import USERID
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage

TIMEOUT = 5.0
EVENTS = 50
RELOADS = ("offline_to_online.rank.s2_model_to_triton",) * 5 + ("offline_to_online.recall.s2_item_to_es",)


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
    for user in users[:EVENTS]:
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
    """Both, then the report."""
    settings = Settings()
    users = catalogue.load_table(catalogue.USER_FILTER, [USERID])[USERID].to_pylist()
    np.random.default_rng(0).shuffle(users)
    report: dict[str, Any] = {
        "dataset": catalogue.load_json(catalogue.DATASET)["dataset"],
        "machine": machine(),
        "reloads": reload_under_load(settings, users),
        "events": event_to_answer(settings, users),
    }
    (settings.folder(settings.run_dir) / "reloads.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    part = report["reloads"]
    if set(part["statuses"]) != {200} or part["connection_errors"] or part["answers_without_items"]:
        print("error: not every request was answered.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
