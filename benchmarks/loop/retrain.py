"""Drains the log, fits all models to the original ratings and the events, and promotes them if they are not worse.

    python -m benchmarks.loop.retrain          (or: make retrain)

1. The stages of online_to_offline/ make tables and training rows of the log.
2. The stages of offline/ are run into a folder of their own beside the served artefacts: a full fit.
3. The gate (gate.py) compares the new models with the served ones on rows that neither was fitted to, and says no where
   they are worse: status 1, and the served artefacts are as they were.
4. Otherwise the new artefacts are moved into the served ones' places, all or none, and loaded, and each user who acted
   gets their latest rows back, which a load removes. With --no-load they are moved and not loaded.

Writes retrain.json and retrain.md under RUN_DIR.
"""

import argparse
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.loop.gate import Gate, compare
from benchmarks.report import machine, measured_on, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.commit import move_together
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.preprocess import movielens
from offline.preprocess.readers.with_events import EVENTS_FILE, EXPOSURES_FILE, WithEvents, with_events

DRAIN = ("online_to_offline.s1_log_to_tables", "online_to_offline.s2_training_rows")
CANDIDATE = ".candidate"  # under the root of the artefacts: on the same disk, so that moving is renaming
RECORDS = ".stages"


class Refused(Exception):
    """The gate refused the new models; the message says why."""

    is_expected = True


def run(module: str, *arguments: str, **env: str) -> None:
    """Runs a module as a script of its own; this process ends with its status where it fails."""
    print(f"{module}:", flush=True)
    command = [sys.executable, "-m", module, *arguments]
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=False).returncode
    if status:
        sys.exit(status)


def new_events(settings: Settings) -> Int64Array:
    """[events] the users of those events that the served models' data do not hold; they stand behind those that do."""
    users: Int64Array = catalogue.EVENT_RATINGS.load([Column.USERID])[Column.USERID].to_numpy()
    fitted = settings.artefacts / EVENTS_FILE
    return users[pq.read_metadata(fitted).num_rows if fitted.exists() else 0 :]


def prepare(settings: Settings) -> Path:
    """An empty root for the new artefacts, with all events and what was seen beside them; returns it."""
    candidate = settings.artefacts / CANDIDATE
    shutil.rmtree(candidate, ignore_errors=True)
    for table, name in ((catalogue.EVENT_RATINGS, EVENTS_FILE), (catalogue.EXPOSURES, EXPOSURES_FILE)):
        (candidate / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table.existing_file(), candidate / name)
    return candidate


def promote(candidate: Path) -> None:
    """Moves the new artefacts, with events and records of stages, into the places of the served ones: all or none."""
    found = [*candidate.glob("offline/**/*"), *candidate.glob(f"{RECORDS}/*.json")]
    # A table in parts is a folder, and is moved as one.
    tables = [
        place for place in found if place.suffix and not any(parent.suffix for parent in _within(place, candidate))
    ]
    names = [str(place.relative_to(candidate)) for place in tables]
    for name in names:
        (candidate.parent / name).parent.mkdir(parents=True, exist_ok=True)
    move_together([(f"{candidate.name}/{name}", name) for name in names], f".{uuid.uuid4().hex}.tmp")
    shutil.rmtree(candidate, ignore_errors=True)


def _within(place: Path, root: Path) -> list[Path]:
    """The folders between a place and the root."""
    return [parent for parent in place.parents if parent.is_relative_to(root) and parent != root]


def report(gate: Gate, events: int, settings: Settings) -> str:
    """Writes retrain.json and retrain.md; returns the latter's text."""
    dataset = catalogue.DATASET.load()
    said = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine(), "events": events}
    verdict = "refused: " + "; ".join(gate.refusals) if gate.refusals else "promoted"
    lines = [measured_on(said), f"{events:,} new events; {gate.users:,} users with positives in their latest rows."]
    text = "\n\n".join([*lines, gate.table(), f"The new models are {verdict}."]) + "\n"
    write_report(settings, "retrain", {**said, **asdict(gate), "promoted": not gate.refusals}, text)
    return text


def retrain(settings: Settings) -> Gate | None:
    """Fits, compares and promotes; returns what the gate found, None where there are no new events."""
    users = new_events(settings)
    if not len(users):
        return None
    candidate = prepare(settings)
    run("offline", ARTEFACTS_DIR=str(candidate))
    original = movielens.raw_data(settings)
    original = original.original if isinstance(original, WithEvents) else original
    gate = compare(settings.artefacts, candidate, with_events(original, candidate), np.unique(users))
    print(report(gate, len(users), settings), flush=True)
    if not gate.refusals:
        promote(candidate)
    return gate


def main() -> None:
    """Drains, fits, compares, promotes, loads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-load", action="store_true", help="promote the new artefacts and do not load them")
    arguments, settings = parser.parse_args(), Settings()
    for stage in DRAIN:
        run(stage)
    gate = retrain(settings)
    if gate is None:
        print("no new events: the served models are those that a retraining would make")
        return
    if gate.refusals:
        raise Refused("the new models are not promoted, and the served ones stay as they are")
    if not arguments.no_load:
        run("offline_to_online")
        run("benchmarks.loop.replay")


if __name__ == "__main__":
    run_stage(main)
