"""How fast it runs: every bar of the project, measured on a stack of its own, beside a running one or without.

    python -m benchmarks.bench          (or: make bench)

What `make run` does, stage by stage, with time and memory; training's rows a second; /recommend under 1 to 64 clients
beside its floor; ten and a hundred times the items, ten times the ratings. Writes `.run/bench.json`, `.run/bench.md`
and `pic/latency.png`; ends with status 1 when a request fails.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.charts import latency as draw_latency
from benchmarks.growth import generate_command, items_in_elasticsearch, ratings_in_preprocessing
from benchmarks.latency import floor, under_load
from benchmarks.load import machine
from benchmarks.report import bench_tables
from benchmarks.stack import in_force, settings_of_its_own
from data_exchange_center import catalogue
from data_exchange_center.columns import SPLIT, USERID, Split
from data_exchange_center.settings import Settings
from data_exchange_center.stage import Measured, run_measured, run_stage
from offline.__main__ import STAGES
from offline.fitting import Schedule
from offline.rank.training import Rows, fit
from offline.rank.training import Settings as TrainingSettings
from offline_to_online.__main__ import LOADERS

CHECK = "offline_to_online.rank.s3_check_offline_and_online"
CLIENTS = (1, 4, 16, 64)
SECONDS = {16: 30.0}  # as the bar says; the others
OTHERWISE = 15.0
WARM_UP_SECONDS = 8.0
TIMED_EPOCHS = 3

Figures = dict[str, Any]


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
    """Training rows that DeepFM's loop takes in a second, the best settings' model, no figure on valid between."""
    meta, deepfm = catalogue.load_json(catalogue.FEATURE_META), catalogue.load_json(catalogue.MODEL_METRICS)["deepfm"]
    frame = catalogue.load_table(catalogue.TRAINING_FRAME)
    rows = Rows.from_table(frame).select(frame[SPLIT].to_numpy() != Split.TEST)
    chosen = TrainingSettings(deepfm["l2"], deepfm["deep_inputs"])
    times = []
    for epochs in (1, 1 + TIMED_EPOCHS):  # what is not the loop stands in both
        began = time.monotonic()
        fit(rows, chosen, meta["vocabulary_sizes"], Schedule(epochs), 0)
        times.append(time.monotonic() - began)
    return TIMED_EPOCHS * len(rows.labels) / (times[1] - times[0])


def measure() -> Figures:
    """The report; the growth of the preprocessing at the end, when no server is running any more."""
    report: Figures = {"machine": machine()}
    with settings_of_its_own() as env, in_force(env) as settings:
        used = run_all(settings, env)
        dataset = catalogue.load_json(catalogue.DATASET)
        report |= {"dataset": dataset["dataset"], "seed": dataset["seed"], "rows": dataset["rows"]}
        report["steps"] = {name: asdict(measured) for name, measured in used.items()}
        print("training loop ...", flush=True)
        report["deepfm_rows_a_second"] = round(rows_a_second())
        users = catalogue.load_table(catalogue.USER_FILTER, [USERID])[USERID].to_pylist()
        np.random.default_rng(0).shuffle(users)
        print("requests ...", flush=True)
        under_load(settings, users, 4, WARM_UP_SECONDS)
        report["requests"] = {
            "machine": machine(),
            "floor": floor(settings, users),
            "clients": {str(n): under_load(settings, users, n, SECONDS.get(n, OTHERWISE)) for n in CLIENTS},
        }
        print("more items ...", flush=True)
        report["items"] = items_in_elasticsearch(settings)
    print("more ratings ...", flush=True)
    report["ratings"] = ratings_in_preprocessing(report["seed"])
    return report


def main() -> None:
    """Measures, writes the report, draws."""
    folder = Settings().folder(Settings().run_dir)
    report = measure()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    text = bench_tables(report)
    (folder / "bench.md").write_text(text)
    print(text)
    print(f"wrote {draw_latency(report)}")
    for clients, outcome in report["requests"]["clients"].items():
        if set(outcome["statuses"]) != {200} or outcome["connection_errors"] or outcome["answers_without_items"]:
            print(f"error: {clients} clients: not every request was answered.", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
