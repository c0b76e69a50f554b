"""Kills each node of the small cluster in turn under load and starts it again by the verb.

    python -m benchmarks.speed.cluster_outages

On a cluster of its own, on free ports and with a copy of the artefacts. Of 16 clients 12 ask for lists and 4 send
events. Writes cluster_outages.json and .md under RUN_DIR; ends with status 1 when a request was refused or got a 5xx, a
list was empty, or an accepted event is not among the events in Redis exactly once.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.memory import held_mib
from benchmarks.report import machine, measured_on, table, write_report
from benchmarks.speed.lists_and_events import EVENT_CLIENTS, LIST_CLIENTS, PAUSE_SECONDS, Event, ListsAndEvents
from benchmarks.userids import served_userids
from data_exchange_center import catalogue
from data_exchange_center.addresses import addresses
from data_exchange_center.columns import Column
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from online.callers.redis_stores import redis_caller
from services import cluster, redis_cluster
from services.stack import recorder_of
from testkit.stack import cluster_nodes, in_force, settings_of_its_own

CALM_SECONDS = 3.0  # before a node is killed, and after it is back
REDIS_TIMEOUT = 20.0
# The nodes that are killed, all unless it is set: CLUSTER_NODES=redis-1,triton-2.
NODES = tuple(filter(None, os.environ.get("CLUSTER_NODES", "").split(",")))


def role_of(settings: Settings, name: str) -> str:
    """What a node of Redis is now, master or replica; empty for other services."""
    if cluster.of_service(name) != "redis":
        return ""
    address = addresses(settings.redis_nodes)[int(name.split("-")[1]) - 1]
    with redis_cluster.client_of(settings, address) as client:
        return "master" if client.info("replication")["role"] == "master" else "replica"


def start_all(env: Mapping[str, str]) -> None:
    """The verb, less what it does to artefacts and loads: what is missing is started."""
    for verb in ("start", "serve"):
        command = [sys.executable, "-m", "services", verb]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def kill(settings: Settings, name: str) -> None:
    """Ends a node with all its processes, at once."""
    family = recorder_of(settings).family(name)
    assert family, f"{name} is not running"
    for member in family:
        member.kill()


def all_nodes(settings: Settings) -> list[str]:
    """The nodes that are killed, Redis's replicas before its masters: none is a master only because another died."""
    servers = [server.name for server in (*cluster.servers(settings), *cluster.web_servers(settings))]
    of_redis = [name for name in servers if cluster.of_service(name) == "redis"]
    return [*reversed(of_redis), *(name for name in servers if name not in {*of_redis, "nginx"})]


def kill_each(
    settings: Settings, env: Mapping[str, str], load: ListsAndEvents, nodes: Sequence[str]
) -> list[dict[str, Any]]:
    """Kills and starts one node after the other; a row for each."""
    rows = []
    for name in nodes:
        role = role_of(settings, name)
        load.next_seen()
        killed = time.monotonic()
        kill(settings, name)
        start_all(env)
        whole = time.monotonic() - killed
        time.sleep(CALM_SECONDS)
        rows.append({"node": name, "role": role, "whole_again_s": round(whole, 1), **load.next_seen().summary()})
        print(
            {key: rows[-1][key] for key in ("node", "role", "whole_again_s", "requests", "errors", "degraded")},
            flush=True,
        )
    return rows


def lost(settings: Settings, accepted: Sequence[Event]) -> list[Event]:
    """The accepted events that Redis does not hold exactly once."""
    held = Counter(
        (user, event.itemid, event.timestamp)
        for user, events in redis_caller(settings, REDIS_TIMEOUT).events().items()
        for event in events
    )
    return [event for event in accepted if held[event] != 1]


def memory_mib(settings: Settings) -> dict[str, int]:
    """What each service's processes hold, what they share counted once (PSS)."""
    used: dict[str, float] = {}
    recorder = recorder_of(settings)
    for name in recorder.names():
        service = cluster.of_service(name)
        used[service] = used.get(service, 0.0) + held_mib(recorder.family(name))
    return {service: round(held) for service, held in used.items()}


def measure(settings: Settings, env: Mapping[str, str]) -> dict[str, Any]:
    """Starts and loads the cluster, kills its nodes, looks for the events; the report."""
    began = time.monotonic()
    start_all(env)
    started = time.monotonic() - began
    subprocess.run([sys.executable, "-m", "offline_to_online"], cwd=ROOT, env={**os.environ, **env}, check=True)
    loaded = time.monotonic() - began - started
    dataset, items = catalogue.DATASET.load(), catalogue.ITEMS.load([Column.ITEMID])[Column.ITEMID].to_pylist()
    nodes = [name for name in all_nodes(settings) if not NODES or name in NODES]
    report = {
        "dataset": dataset.dataset,
        "seed": dataset.seed,
        "machine": machine(),
        "memory_mib": memory_mib(settings),
    }
    load = ListsAndEvents(settings, served_userids(), items)
    time.sleep(CALM_SECONDS * 3)
    before = load.next_seen().summary()
    rows = kill_each(settings, env, load, nodes)
    time.sleep(CALM_SECONDS)
    after = load.next_seen().summary()
    load.end()
    return {
        **report,
        "clients": {"lists": LIST_CLIENTS, "events": EVENT_CLIENTS, "pause_s": PAUSE_SECONDS},
        "started_s": round(started, 1),
        "loaded_s": round(loaded, 1),
        "before": before,
        "nodes": rows,
        "after": after,
        "errors": sum(row["errors"] for row in (before, *rows, after)),
        "events_accepted": len(load.accepted),
        "events_lost": len(lost(settings, load.accepted)),
    }


def main() -> None:
    """On a cluster of its own; writes the report."""
    settings = Settings()
    source = settings.artefacts
    with settings_of_its_own() as own:
        env = {**own, **cluster_nodes()}
        shutil.copytree(source / "offline", f"{env['ARTEFACTS_DIR']}/offline")
        with in_force(env) as inside:
            report = measure(inside, env)
    text = as_text(report)
    write_report(settings, "cluster_outages", report, text)
    print(text)
    if report["errors"] or report["events_lost"]:
        print(f"error: {report['errors']} errors, {report['events_lost']} accepted events lost.", file=sys.stderr)
        sys.exit(1)


def as_text(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    columns = {
        "node": "node killed",
        "role": "it was",
        "whole_again_s": "s until whole",
        "requests": "requests",
        "errors": "errors",
        "degraded_lists": "degraded lists",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "events_accepted": "events accepted",
        "slowest_event_ms": "slowest event, ms",
    }
    rows = [{"node": "none", "role": "", "whole_again_s": ""} | report["before"], *report["nodes"]]
    clients = report["clients"]
    return f"""# Each node of the small cluster killed under load

{measured_on(report)} {clients["lists"]} clients ask for lists, {clients["events"]} send events, {clients["pause_s"]} s
after each response. Started in {report["started_s"]} s, loaded in {report["loaded_s"]} s,
{sum(report["memory_mib"].values())} MiB in all.

{table([[row[key] for key in columns] for row in rows], list(columns.values()))}

{report["events_accepted"]} events accepted, {report["events_lost"]} of them not in Redis exactly once.
"""


if __name__ == "__main__":
    run_stage(main)
