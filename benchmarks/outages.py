"""Kills each of the four servers in turn under load and starts it again; every request must be answered.

    python -m benchmarks.outages          (while `make run` is up)

Writes `.run/outages.json` and ends with status 1 on a connection error, a 5xx, or an answer without items.
"""

import json
import os
import subprocess
import sys
import threading
import time

from benchmarks.load import ask, machine
from data_exchange_center import catalogue
from data_exchange_center.columns import USERID
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from services.__main__ import STARTS, recorder_of

CLIENTS = 16
SECONDS = int(os.environ.get("OUTAGE_SECONDS", "60"))


def kill_in_turn(settings: Settings, began: float, log: list[dict[str, object]]) -> None:
    """One server every quarter of the time: killed with all its processes, then started by the usual verb."""
    recorder = recorder_of(settings)
    for turn, name in enumerate(STARTS):
        time.sleep(max(0.0, began + SECONDS * (turn + 0.1) / len(STARTS) - time.monotonic()))
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
    """Load and outages side by side, then the report."""
    settings = Settings()
    users = catalogue.load_table(catalogue.USER_FILTER, [USERID])[USERID].to_pylist()
    before, began, log = machine(), time.monotonic(), list[dict[str, object]]()
    killer = threading.Thread(target=kill_in_turn, args=(settings, began, log))
    killer.start()
    outcome = ask(settings, users, CLIENTS, lambda: time.monotonic() < began + SECONDS or killer.is_alive())
    time.sleep(3)
    after = ask(settings, users, 1, iter([True] * 50 + [False]).__next__)
    report = {
        "dataset": catalogue.load_json(catalogue.DATASET)["dataset"],
        "machine": before,
        "clients": CLIENTS,
        **outcome.summary(),
        "outages": log,
        "degraded_3_s_after": dict(after.degraded),
    }
    (settings.folder(settings.run_dir) / "outages.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    failed = outcome.connection_errors or outcome.empty or set(outcome.statuses) != {200} or after.degraded
    if failed:
        print(f"error: not every request was answered: {outcome.connection_errors[:3]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
