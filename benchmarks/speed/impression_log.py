"""What the impression log costs a request, and whether it holds what is computed again: on a running, loaded stack.

    python -m benchmarks.speed.impression_log

Two web servers beside the running one, on the same four services, one that logs what it shows and one that does not,
take turns: a block of users for one, then for the other, the first of each pair changing. Then a drain makes tables of
the log, and the features of every shown item are computed again. Writes impression_log.json and impression_log.md under
RUN_DIR; ends with status 1 where a bar is missed.
"""

import http.client
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.report import machine, measured_on, table, write_report
from benchmarks.speed.load import ask
from benchmarks.speed.own_server import running
from benchmarks.userids import served_userids
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float64Array
from data_exchange_center.serving_names import REDIS_IMPRESSIONS
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from online.callers.redis_stores import redis_client
from services.readiness import responds
from testkit.stack import free_ports

BLOCK, LEFT_OUT = 50, 10  # users of a block; the first ones find the caches of the block before
PAIRS, WARM_UP_PAIRS = 160, 4
CLIENTS, SECONDS, TURNS = 16, 4.0, 3  # under load: seconds of a turn, turns of each server
START_SECONDS = 60.0
RESAMPLES = 2_000
MOST_SLOWER = 0.03  # of the median
LEAST_ITEMS = 10_000
DRAIN = ("online_to_offline.s1_log_to_tables", "online_to_offline.s2_training_rows")
WITH, WITHOUT = "with the log", "without"


@contextmanager
def server(logs: bool) -> Iterator[int]:
    """A web server on the services of the settings; its port.

    Raises:
        RuntimeError: it does not start.
    """
    (port,) = free_ports(1)
    with TemporaryDirectory() as run_dir, (Path(run_dir) / "web.log").open("wb") as log:
        own = {"WEB_PORT": str(port), "RUN_DIR": run_dir, "IMPRESSION_LOG": str(logs)}
        is_ready = partial(responds, f"http://127.0.0.1:{port}/ready")
        with running("online.main.s1_server", own, is_ready, START_SECONDS, log):
            yield port


def block_medians(ports: dict[str, int], users: list[Any]) -> dict[str, Float64Array]:
    """[PAIRS] the median milliseconds of each block, by server."""
    connections = {name: http.client.HTTPConnection("127.0.0.1", port, timeout=10) for name, port in ports.items()}
    turn, medians = itertools.cycle(users), {name: np.empty(PAIRS) for name in ports}
    for pair in range(-WARM_UP_PAIRS, PAIRS):
        some = list(itertools.islice(turn, BLOCK))
        for name in sorted(ports, reverse=bool(pair % 2)):
            times = []
            for user in some:
                began = time.perf_counter()
                connections[name].request("GET", f"/recommend?userid={quote(str(user), safe='')}")
                connections[name].getresponse().read()
                times.append(time.perf_counter() - began)
            if pair >= 0:
                medians[name][pair] = np.median(times[LEFT_OUT:]) * 1000
    return medians


def slower_by(medians: dict[str, Float64Array]) -> dict[str, Any]:
    """By how much the median block is slower with the log, with a bootstrap interval over pairs of blocks."""
    ratio = medians[WITH] / medians[WITHOUT] - 1
    draws = np.random.default_rng(0).integers(len(ratio), size=(RESAMPLES, len(ratio)))
    low, high = np.quantile(np.median(ratio[draws], axis=1), [0.025, 0.975])
    return {
        "p50_ms": {name: round(float(np.median(values)), 3) for name, values in medians.items()},
        "slower_by": round(float(np.median(ratio)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def under_load(ports: dict[str, int], users: list[Any]) -> dict[str, Any]:
    """Both servers in turns under CLIENTS clients."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ports}
    for turn in range(TURNS):
        for name in sorted(ports, reverse=bool(turn % 2)):
            settings = Settings().model_copy(update={"web_host": "127.0.0.1", "web_port": ports[name]})
            outcome = ask(settings, users, CLIENTS, partial(_is_before, time.monotonic() + SECONDS))
            found[name].append(outcome.summary())
    return {
        name: {key: float(np.median([one[key] for one in turns])) for key in ("requests_per_second", "p50_ms")}
        for name, turns in found.items()
    }


def _is_before(end: float) -> bool:
    return time.monotonic() < end


def entry_bytes(settings: Settings) -> int:
    """Bytes of Redis's memory that a list takes."""
    with redis_client(settings, 10) as client:
        size: Any = client.memory_usage(REDIS_IMPRESSIONS, samples=0)
        count: Any = client.xlen(REDIS_IMPRESSIONS)
    return round(size / max(count, 1))


def measure(settings: Settings) -> dict[str, Any]:
    """The report.

    Raises:
        SystemExit: a stage of the drain fails; it has said why.
    """
    users = served_userids()
    np.random.default_rng(0).shuffle(users)
    dataset = catalogue.DATASET.load()
    report: dict[str, Any] = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(server(name == WITH)) for name in (WITH, WITHOUT)}
        report["one_client"] = slower_by(block_medians(ports, users))
        report["under_load"] = under_load(ports, users)
    report["bytes_a_list"] = entry_bytes(settings)
    for stage in DRAIN:
        if status := subprocess.run([sys.executable, "-m", stage], cwd=ROOT, check=False).returncode:
            sys.exit(status)
    rows = catalogue.LOG_ROWS.load()
    report["features"] = {"checked": rows.checked, "different": rows.different, "unchecked_lists": rows.unchecked_lists}
    return report


def tables(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    one, load = report["one_client"], report["under_load"]
    low, high = one["interval"]
    rows: list[list[object]] = [
        ["one client, p50 ms", one["p50_ms"][WITHOUT], one["p50_ms"][WITH]],
        [f"{CLIENTS} clients, p50 ms", load[WITHOUT]["p50_ms"], load[WITH]["p50_ms"]],
        [f"{CLIENTS} clients, requests/s", load[WITHOUT]["requests_per_second"], load[WITH]["requests_per_second"]],
    ]
    said = [
        measured_on(report),
        table(rows, ["", WITHOUT, WITH]),
        f"One client: slower by {one['slower_by']:.1%} ({low:.1%} to {high:.1%}); {report['bytes_a_list']:,} B a list.",
        "{checked:,} shown items computed again: {different:,} differences.".format(**report["features"]),
    ]
    return "\n\n".join(said) + "\n"


def main() -> None:
    """Measures, writes the report, holds it against the bars."""
    settings = Settings()
    report = measure(settings)
    text = tables(report)
    write_report(settings, "impression_log", report, text)
    print(text)
    missed = []
    if report["one_client"]["slower_by"] > MOST_SLOWER:
        missed.append(f"the median is slower by more than {MOST_SLOWER:.0%}")
    if report["features"]["different"] or report["features"]["checked"] < LEAST_ITEMS:
        missed.append(f"not {LEAST_ITEMS:,} items without a difference")
    if missed:
        sys.exit(f"error: {'; '.join(missed)}.")


if __name__ == "__main__":
    run_stage(main)
