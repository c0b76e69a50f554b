"""How fast it runs: every target of the project, measured on a stack of its own, beside a running one or without.

    python -m benchmarks.speed.bench          (or: make bench)

It measures what `make run` does, stage by stage, with time and memory; training's rows a second; /recommend under 1 to
64 clients beside its floor; ten and a hundred times the items, ten times the ratings. Writes bench.json, bench.md and
charts/latency.png under RUN_DIR; ends with status 1 when a request fails.
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import held_mib
from benchmarks.report import charts_folder, machine, write_report
from benchmarks.speed.growth import generate_command, items_in_elasticsearch, ratings_in_preprocessing
from benchmarks.speed.latency import floor, under_load
from benchmarks.speed.latency_chart import latency
from benchmarks.speed.tables import bench_tables
from data_exchange_center import catalogue
from data_exchange_center.columns import Column, Split
from data_exchange_center.measured_process import Measured, run_measured
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.__main__ import STAGES
from offline.fitting import Schedule
from offline.rank.training import HyperParameters, Rows, fit
from offline_to_online.__main__ import LOADERS
from services.stack import WEB, recorder_of
from testkit.stack import in_force, settings_of_its_own

CHECK = "offline_to_online.rank.s3_check_offline_and_online"
SECONDS = {1: 15.0, 4: 15.0, 16: 30.0, 64: 15.0}  # by the number of clients; the target is set for 16
WARM_UP_SECONDS = 8.0
TIMED_EPOCHS = 3


def run_all(settings: Settings, env: Mapping[str, str]) -> dict[str, Measured]:
    """What `make run` does after the install, on a fresh stack: each step's time and memory."""
    used: dict[str, Measured] = {}

    def run(name: str, *command: str) -> None:
        print(f"{name} ...", flush=True)
        used[name] = run_measured([sys.executable, "-m", *command], env)

    with tempfile.TemporaryDirectory() as folder:
        if settings.data_dir is None and settings.dataset == "generated":
            used["data"] = run_measured(generate_command(Path(folder) / "raw", 1, settings.seed))
        run("data, found", "offline.preprocess.movielens")
    for stage in STAGES:
        run(stage, stage)
    run("services", "services", "start")
    for loader in LOADERS:
        run(loader, loader)
    run("check", CHECK)
    run("serve", "services", "serve")
    return used


def rows_a_second() -> float:
    """Rows that the training loop of the chosen DeepFM takes in a second, without evaluating between the epochs."""
    sizes, deepfm = catalogue.FEATURE_META.load().vocabulary_sizes, catalogue.MODEL_METRICS.load().deepfm
    frame = catalogue.TRAINING_FRAME.load()
    rows = Rows.from_table(frame, catalogue.DATASET.load().features)
    rows = rows.select(frame[Column.SPLIT].to_numpy() != Split.TEST)
    chosen = HyperParameters(deepfm.l2, deepfm.deep_inputs)
    times = []
    for epochs in (1, 1 + TIMED_EPOCHS):  # what is not the loop takes the same time in both
        began = time.monotonic()
        fit(rows, chosen, sizes, Schedule(epochs), 0)
        times.append(time.monotonic() - began)
    return TIMED_EPOCHS * len(rows.labels) / (times[1] - times[0])


def web_memory(settings: Settings) -> float:
    """MiB that the web server and its workers hold, what they share counted once (PSS)."""
    return held_mib(recorder_of(settings).family(WEB))


def measure() -> dict[str, Any]:
    """The report; the growth of the preprocessing comes last, when no server is running any more."""
    report: dict[str, Any] = {"machine": machine()}
    with settings_of_its_own() as env, in_force(env) as settings:
        used = run_all(settings, env)
        dataset = catalogue.DATASET.load()
        report |= {"dataset": dataset.dataset, "seed": dataset.seed, "rows": dataset.rows.model_dump()}
        report["steps"] = {name: asdict(measured) for name, measured in used.items()}
        print("training loop ...", flush=True)
        report["deepfm_rows_a_second"] = round(rows_a_second())
        users = catalogue.USER_FILTER.load([Column.USERID])[Column.USERID].to_pylist()
        np.random.default_rng(0).shuffle(users)
        print("requests ...", flush=True)
        under_load(settings, users, 4, WARM_UP_SECONDS)
        report["requests"] = {
            "machine": machine(),
            "floor": floor(settings, users),
            "clients": {str(n): under_load(settings, users, n, seconds) for n, seconds in SECONDS.items()},
            "web_pss_mib": round(web_memory(settings)),
        }
        print("more items ...", flush=True)
        report["items"] = items_in_elasticsearch(settings)
    print("more ratings ...", flush=True)
    report["ratings"] = ratings_in_preprocessing(report["seed"])
    return report


def main() -> None:
    """Measures, writes the report, draws."""
    settings, report = Settings(), measure()
    text = bench_tables(report)
    write_report(settings, "bench", report, text)
    print(text)
    print(f"wrote {latency(report, charts_folder(settings))}")
    for clients, outcome in report["requests"]["clients"].items():
        if set(outcome["statuses"]) != {200} or outcome["connection_errors"] or outcome["responses_without_items"]:
            print(f"error: {clients} clients: not every request got its list.", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
