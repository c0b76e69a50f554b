"""Rounds of the loop with the generator's users: serve, look, rate by true taste, log, retrain.

    python -m benchmarks.loop.simulate          (or: make simulate)

On a stack of its own, with a generated data set whose users have few ratings, so that there is something to learn. In
each round

1. every user asks the real server for a list;
2. goes on by themselves, by the generator's own step, which nothing that was shown changes: what they like there are
   the true likes of the round, and the lists are evaluated against them;
3. looks at the list, at its first places the most, and rates what they choose by their true taste;
4. all of it is sent as events, those of the list with the id of its request; `make retrain` drains the log, fits, asks
   the gate, promotes and loads.

After the last retraining a last round of lists is evaluated. Beside the served lists stand the oracle's, a ceiling that
no model passes, and those of a shop that shows what is popular alone: its users act by the same tastes, its counts grow
by what it shows, and its lists come to be the same few items. Writes simulate.json, simulate.md and charts/loop.png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loop.loop_chart import draw_loop
from benchmarks.loop.people import LIST_LENGTH, People, Rated
from benchmarks.loop.replay import count_again, kept_out
from benchmarks.loop.shop import Shop, send
from benchmarks.quality.comparison import difference, summary
from benchmarks.quality.list_metrics import accuracy
from benchmarks.report import charts_folder, machine, measured_on, read_report, table, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float64Array
from data_exchange_center.columns import Column
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.metrics import Bootstrap
from offline.preprocess.synthetic.files import END, generate
from offline.preprocess.synthetic.oracle import ORACLE_FILE, load_truth
from offline.preprocess.synthetic.scale import Scale
from testkit.stack import in_force, settings_of_its_own

SCALE = Scale(users=943, items=1682, ratings=28_290, max_userid=943, max_itemid=1682)  # 30 ratings a user
ROUNDS = 3
ROUND_SECONDS = 7 * 86_400
LOG_SECONDS = 1.0  # after which the server has logged what it has shown
RECALL = f"recall@{LIST_LENGTH}"
SERVED, ORACLE, POPULAR = "recommender", "oracle", "popularity alone"

Lists = dict[int, list[int]]


def run(*command: str) -> int:
    """Runs a module as a script of its own; returns its status."""
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=dict(os.environ), check=False).returncode


def start() -> None:
    """Fits, starts the servers, loads.

    Raises:
        SystemExit: a step fails; it has said why.
    """
    for step in (("offline",), ("services", "start"), ("offline_to_online",), ("services", "serve")):
        if status := run(*step):
            sys.exit(status)


class Popularity:
    """A shop that shows what is popular alone, to people of its own with the same tastes."""

    def __init__(self, people: People) -> None:
        """Counts what was liked until now."""
        self.people = people
        self._positives = np.zeros(len(people.truth.itemid), np.int64)
        impressions = catalogue.OFFLINE_IMPRESSIONS.load([Column.ITEMID, Column.LABEL])
        liked = impressions[Column.ITEMID].to_numpy()[impressions[Column.LABEL].to_numpy() == 1]
        np.add.at(self._positives, np.searchsorted(people.truth.itemid, liked), 1)

    def go_on(self) -> tuple[Lists, Rated]:
        """A round: the lists, and what people rate by themselves. What is rated comes into the counts."""
        lists = self.people.popular(self._positives)
        alone = self.people.go_on()
        seen = self.people.look(lists)
        for rated in (alone, seen):
            np.add.at(self._positives, rated.item[rated.liked], 1)
        return lists, alone


def recall(lists: Lists, alone: Rated, people: People) -> Float64Array:
    """[users] Recall of the lists against what users like by themselves; NaN for those who like nothing."""
    relevant: dict[int, list[int]] = defaultdict(list)
    liked = alone.liked
    for user, item in zip(people.userids[alone.user[liked]], people.truth.itemid[alone.item[liked]], strict=True):
        relevant[int(user)].append(int(item))
    users = sorted(relevant)
    values = np.full(len(people.userids), np.nan)
    values[np.searchsorted(people.userids, users)] = accuracy(lists, relevant, users)[RECALL]
    return values


def coverage(lists: Lists, items: int) -> float:
    """The share of the catalogue that stands in some list."""
    return len({item for own in lists.values() for item in own[:LIST_LENGTH]}) / items


def one_round(number: int, shop: Shop, people: People, popularity: Popularity) -> tuple[dict[str, Any], Any]:
    """Lists, their evaluation, and what people do; returns what is reported, and [users] recall by system."""
    expected = people.expected()
    lists = shop.lists(people.userids.tolist(), number)
    alone = people.go_on()
    recalls = {name: recall(own, alone, people) for name, own in ((SERVED, lists), (ORACLE, expected))}
    acted = people.look(lists)
    events = send(shop, people, (acted, alone), END + (number + 1) * ROUND_SECONDS, number)
    popular, by_themselves = popularity.go_on()
    recalls[POPULAR] = recall(popular, by_themselves, popularity.people)
    bootstrap = Bootstrap(people.userids, number)
    items = len(people.truth.itemid)
    report: dict[str, Any] = {
        "round": number,
        "systems": {name: summary({RECALL: values}, bootstrap)[RECALL] for name, values in recalls.items()},
        "coverage": {
            SERVED: coverage(lists, items),
            POPULAR: coverage(popular, items),
            ORACLE: coverage(expected, items),
        },
        "events": events,
        "events_from_lists": len(acted.user),
        "liked_share_of_list_events": float(acted.liked.mean()) if len(acted.user) else 0.0,
    }
    return report, recalls


def simulate(settings: Settings, rounds: int, seed: int) -> dict[str, Any]:
    """The report of some rounds, on the running stack of the settings."""
    truth, kept = load_truth(settings.raw_data / ORACLE_FILE), kept_out()
    count_again(kept)  # as after each retraining: the server knows all that people have rated
    last = {user: [row.itemid for row in rows] for user, rows in kept.items()}
    people, shop = People(truth, last, seed), Shop(settings)
    popularity = Popularity(People(truth, last, seed))
    report: dict[str, Any] = {"rounds": []}
    before: Float64Array | None = None
    for number in range(rounds + 1):
        print(f"round {number} ...", flush=True)
        shop.wait()
        of_round, recalls = one_round(number, shop, people, popularity)
        if before is not None:
            bootstrap = Bootstrap(people.userids, number)
            of_round["gain"] = difference(recalls[SERVED], before, bootstrap)
        before = recalls[SERVED]
        if number < rounds:
            time.sleep(LOG_SECONDS)
            status = run("benchmarks.loop.retrain")
            gate = read_report(settings, "retrain") or {}
            of_round["promoted"], of_round["gate"] = not status, gate.get("metrics")
            of_round["log"] = catalogue.LOG_ROWS.load().model_dump()
        report["rounds"].append(of_round)
        print(json.dumps(of_round["systems"]), flush=True)
    return report


def tables(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    rows: list[list[object]] = []
    for one in report["rounds"]:
        cells = [_with_interval(one["systems"][name]) for name in (SERVED, ORACLE, POPULAR)]
        gain = one.get("gain")
        gained = f"{gain['value']:+.3f} ({gain['interval'][0]:+.3f} to {gain['interval'][1]:+.3f})" if gain else ""
        shares = [f"{one['coverage'][name]:.0%}" for name in (SERVED, POPULAR)]
        promoted = {True: "yes", False: "no"}.get(one.get("promoted"), "") if "promoted" in one else ""
        rows.append([one["round"], *cells, gained, *shares, one["events"], promoted])
    headers = ["round", *(f"{RECALL}, {name}" for name in (SERVED, ORACLE, POPULAR)), "gain on the round before"]
    headers += ["coverage, recommender", "coverage, popularity alone", "events", "promoted"]
    return "\n\n".join([measured_on(report), table(rows, headers)]) + "\n"


def _with_interval(measured: dict[str, Any]) -> str:
    low, high = measured["interval"]
    return f"{measured['value']:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Generates, starts a stack, goes through the rounds, writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="retrainings")
    parser.add_argument("--seed", type=int, default=1, help="of what the users do")
    arguments, own = parser.parse_args(), Settings()
    with tempfile.TemporaryDirectory() as raw, settings_of_its_own() as env:
        generate(Path(raw), SCALE, own.seed)
        with in_force({**env, "DATA_DIR": raw}) as settings:
            start()
            report = simulate(settings, arguments.rounds, arguments.seed)
            dataset = catalogue.DATASET.load()
    report |= {"dataset": f"generated, {SCALE.users} users", "seed": dataset.seed, "machine": machine()}
    text = tables(report)
    write_report(own, "simulate", report, text)
    print(text)
    print(f"wrote {draw_loop(report, charts_folder(own) / 'loop.png')}")


if __name__ == "__main__":
    run_stage(main)
