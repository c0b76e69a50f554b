"""Kills each of the four servers in turn under load and starts it again; every request must get a list.

    python -m benchmarks.speed.outages          (while `make run` is up)

Writes outages.json under RUN_DIR and ends with status 1 on a connection error, a 5xx, or a response without items.
"""

import json
import os
import subprocess
import sys
import threading
import time

from benchmarks.report import machine, write_report
from benchmarks.speed.load import ask
from benchmarks.userids import served_userids
from data_exchange_center import catalogue
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from services.stack import SERVERS, recorder_of

CLIENTS = 16
SECONDS = int(os.environ.get("OUTAGE_SECONDS", "60"))


def kill_in_turn(settings: Settings, began: float, log: list[dict[str, object]]) -> None:
    """Every quarter of the time, kills one server with all its processes and starts it by the usual verb."""
    recorder = recorder_of(settings)
    for turn, name in enumerate(server.name for server in SERVERS):
        time.sleep(max(0.0, began + SECONDS * (turn + 0.1) / len(SERVERS) - time.monotonic()))
        family = recorder.family(name)
        assert family, f"{name} was not started by `make services`"
        for member in family:
            member.kill()
        killed = time.monotonic()
        subprocess.run([sys.executable, "-m", "services", "start"], cwd=ROOT, check=True, capture_output=True)
        log.append(
            {"service": name, "killed_at": round(killed - began, 1), "away_s": round(time.monotonic() - killed, 1)}
        )


def main() -> None:
    """Runs load and outages side by side, then writes the report."""
    settings = Settings()
    users = served_userids()
    before, began, log = machine(), time.monotonic(), list[dict[str, object]]()
    killer = threading.Thread(target=kill_in_turn, args=(settings, began, log))
    killer.start()
    outcome = ask(settings, users, CLIENTS, lambda: time.monotonic() < began + SECONDS or killer.is_alive())
    time.sleep(3)
    after = ask(settings, users, 1, iter([True] * 50 + [False]).__next__)
    report = {
        "dataset": catalogue.DATASET.load().dataset,
        "machine": before,
        "clients": CLIENTS,
        **outcome.summary(),
        "outages": log,
        "degraded_3_s_after": dict(after.degraded),
    }
    write_report(settings, "outages", report)
    print(json.dumps(report, indent=2))
    if not outcome.complete or after.degraded:
        print(f"error: not every request got its list: {outcome.connection_errors[:3]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
