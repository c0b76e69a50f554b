"""Loads models and indices again under load, and times how soon an event counts.

    python -m benchmarks.speed.reloads          (while `make run` is up)

Writes reloads.json under RUN_DIR; ends with status 1 when a request fails.
"""

import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.report import machine, write_report
from benchmarks.speed.load import Outcome, ask
from benchmarks.userids import served_userids
from data_exchange_center import catalogue
from data_exchange_center.external_ids import ExternalId
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage

TIMEOUT = 5.0  # seconds
CLIENTS = 4
EVENTS = 50
# The same ranking model gets no new version: benchmarks/speed/promotions.py loads another one.
RELOADS = (
    "offline_to_online.rank.s2_model_to_triton",
    *("offline_to_online.recall.s3_tower_to_triton",) * 4,
    "offline_to_online.recall.s2_item_to_es",
)


def reload_under_load(settings: Settings, users: list[ExternalId]) -> Outcome:
    """Loads ten models and two indices, one after the other, while CLIENTS clients request lists."""
    loading = Event()
    loading.set()
    with ThreadPoolExecutor(1) as background:
        load = background.submit(ask, settings, users, CLIENTS, loading.is_set)
        try:
            for loader in RELOADS * 2:
                subprocess.run([sys.executable, "-m", loader], cwd=ROOT, check=True, capture_output=True)
        finally:
            loading.clear()
        return load.result()


def event_to_response(settings: Settings, users: list[ExternalId]) -> dict[str, float]:
    """Milliseconds until an event is acknowledged, and from there to the next list.

    That list leaves the item out, and is another one beside: the user's vector has moved.
    """
    connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)

    def call(method: str, path: str, content: Any = None) -> Any:
        connection.request(method, path, json.dumps(content), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    acknowledged, visible, moved = [], [], 0
    for user in users[:EVENTS]:
        before = [line["itemid"] for line in call("GET", f"/recommend?userid={quote(str(user), safe='')}")["items"]]
        item = before[0]
        times = [time.perf_counter()]
        response = call("POST", "/events", {"userid": user, "itemid": item, "rating": 4, "ts": int(time.time())})
        if response != {"accepted": 1, "duplicates": 0}:
            raise AssertionError(f"the event of user {user} got {response}")
        times.append(time.perf_counter())
        response = call("GET", f"/recommend?userid={quote(str(user), safe='')}")
        times.append(time.perf_counter())
        after = [line["itemid"] for line in response["items"]]
        if item in after:
            raise AssertionError(f"user {user} is still recommended item {item}")
        moved += after[: len(before) - 1] != before[1:]
        acknowledged.append(times[1] - times[0])
        visible.append(times[2] - times[1])
    return {
        "acknowledged_p50_ms": round(float(np.median(acknowledged)) * 1000, 2),
        "next_response_p50_ms": round(float(np.median(visible)) * 1000, 2),
        "next_response_slowest_ms": round(max(visible) * 1000, 2),
        "lists_moved_beyond_the_filter": round(moved / len(visible), 3),
    }


def main() -> None:
    """Measures both, then writes the report."""
    settings = Settings()
    users = served_userids()
    np.random.default_rng(0).shuffle(users)
    before, outcome = machine(), reload_under_load(settings, users)
    report: dict[str, Any] = {
        "dataset": catalogue.DATASET.load().dataset,
        "machine": before,
        "reloads": outcome.summary(),
        "events": event_to_response(settings, users),
    }
    write_report(settings, "reloads", report)
    print(json.dumps(report, indent=2))
    if not outcome.complete:
        print("error: not every request got its list.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
